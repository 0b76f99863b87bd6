"""What both of Google's SDKs share: how Gemini says which tier answered, and why an answer ended."""

from fleet.providers.base import FinishReason

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
