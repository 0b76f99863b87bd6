"""What Anthropic's error types mean where they say more than the HTTP status. Source: Anthropic "Errors"."""

from fleet.failures import FailureKind

ERROR_CODES = {
    "billing_error": FailureKind.QUOTA_SPENT,
    "overloaded_error": FailureKind.OVERLOAD,
    "rate_limit_error": FailureKind.RATE,
    "api_error": FailureKind.OUTAGE,
    "timeout_error": FailureKind.OUTAGE,
    "authentication_error": FailureKind.KEY_REJECTED,
    "permission_error": FailureKind.FORBIDDEN,
    "not_found_error": FailureKind.NOT_FOUND,
}
