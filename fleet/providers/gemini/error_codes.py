"""What Gemini's error reasons and codes mean where they say more than the HTTP status. Sources: Gemini
"Troubleshooting", ``google.api.ErrorReason``."""

from fleet.failures import FailureKind

ERROR_CODES = {
    "API_KEY_INVALID": FailureKind.KEY_REJECTED,
    "API_KEY_SERVICE_BLOCKED": FailureKind.KEY_REJECTED,
    "API_KEY_HTTP_REFERRER_BLOCKED": FailureKind.KEY_REJECTED,
    "API_KEY_IP_ADDRESS_BLOCKED": FailureKind.KEY_REJECTED,
    "CONSUMER_INVALID": FailureKind.KEY_REJECTED,
    "CONSUMER_SUSPENDED": FailureKind.KEY_REJECTED,
    "SERVICE_DISABLED": FailureKind.KEY_REJECTED,
    "BILLING_DISABLED": FailureKind.QUOTA_SPENT,
    # The Interactions API has its own codes, and sends no quota details with them.
    "too_many_requests": FailureKind.RATE,
    "resource_exhausted": FailureKind.RATE,
}
