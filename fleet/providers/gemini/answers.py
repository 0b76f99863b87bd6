"""What both of Google's SDKs share: where Gemini is, and how it says why an answer ended."""

from fleet.providers.base import FinishReason

OFFICIAL_URL = "https://generativelanguage.googleapis.com"
#: Which service tier answered. Source: ai.google.dev/gemini-api/docs/priority-inference.
TIER_HEADER = "x-gemini-service-tier"
FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "refusal",
    "RECITATION": "refusal",
    "BLOCKLIST": "refusal",
    "PROHIBITED_CONTENT": "refusal",
    "SPII": "refusal",
}
