"""Anthropic without its SDK. Sources: Anthropic's "Errors", "Rate limits" and model pages."""

from fleet.failures import FailureKind
from fleet.providers.spec import Adapter, ModelProfile, VendorSpec

SPEC = VendorSpec(
    official_url="https://api.anthropic.com",
    adapters={"": Adapter("adapter", "AnthropicProvider")},
    price_list="anthropic",
    example_model="claude-haiku-4-5",
    unknown_model="claude-3-nonexistent",
    limit_header="anthropic-ratelimit-{what}-{part}",
    # Input and output have separate limits; output counts while it is generated.
    cached_input_counts=False,
    error_codes={
        "billing_error": FailureKind.QUOTA_SPENT,
        "overloaded_error": FailureKind.OVERLOAD,
        "rate_limit_error": FailureKind.RATE,
        "api_error": FailureKind.OUTAGE,
        "timeout_error": FailureKind.OUTAGE,
        "authentication_error": FailureKind.KEY_REJECTED,
        "permission_error": FailureKind.FORBIDDEN,
        "not_found_error": FailureKind.NOT_FOUND,
    },
    # temperature and top_p were removed from the API with Opus 4.7; newer models answer 400 to either.
    models={
        "claude-3-haiku": ModelProfile(4_096),
        "claude-3-sonnet": ModelProfile(4_096),
        "claude-3-opus": ModelProfile(4_096),
        "claude-3-5-sonnet": ModelProfile(8_192),
        "claude-3-5-haiku": ModelProfile(8_192),
        "claude-3-7-sonnet": ModelProfile(64_000),
        "claude-sonnet-4": ModelProfile(64_000),
        "claude-sonnet-4-5": ModelProfile(64_000, sampling="one"),
        "claude-sonnet-4-6": ModelProfile(128_000, sampling="one"),
        "claude-haiku-4-5": ModelProfile(64_000, sampling="one"),
        "claude-opus-4": ModelProfile(32_000),
        "claude-opus-4-1": ModelProfile(32_000, sampling="one"),
        "claude-opus-4-5": ModelProfile(64_000, sampling="one"),
        "claude-opus-4-6": ModelProfile(128_000, sampling="one"),
        "claude-opus-4-7": ModelProfile(128_000, sampling="none"),
        "claude-opus-4-8": ModelProfile(128_000, sampling="none"),
        "claude-sonnet-5": ModelProfile(128_000, sampling="none"),
        "claude-opus-5": ModelProfile(128_000, sampling="none"),
        "": ModelProfile(64_000, sampling="none"),
    },
)
