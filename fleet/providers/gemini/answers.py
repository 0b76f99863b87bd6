"""What the adapters of both of Google's SDKs share: the header of the service tier, and the finish reasons."""

from fleet.providers.base import FinishReason

#: The service tier that answered. Source: ai.google.dev/gemini-api/docs/priority-inference.
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
