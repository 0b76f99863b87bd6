"""What OpenAI's error codes mean where they say more than the HTTP status. Source: OpenAI "Error codes"."""

from fleet.failures import FailureKind

ERROR_CODES = {
    "insufficient_quota": FailureKind.QUOTA_SPENT,
    "billing_hard_limit_reached": FailureKind.QUOTA_SPENT,
    "billing_not_active": FailureKind.QUOTA_SPENT,
    "slow_down": FailureKind.SLOW_DOWN,
    "model_not_found": FailureKind.NOT_FOUND,
    "invalid_api_key": FailureKind.KEY_REJECTED,
    "context_length_exceeded": FailureKind.CONTEXT_EXCEEDED,
    "exceed_context_size_error": FailureKind.CONTEXT_EXCEEDED,  # llama.cpp's
}
