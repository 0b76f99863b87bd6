"""OpenAI without its SDK. Sources: OpenAI's "Error codes", "Rate limits" and model pages."""

from fleet.failures import FailureKind
from fleet.providers.spec import Adapter, ModelProfile, VendorSpec


def _limited_tokens(max_tokens: int | None, tokens_in: float, tokens_out: float) -> float:
    """The larger of ``max_tokens`` and OpenAI's own estimate of the input, charged when the call arrives."""
    return max(max_tokens or 0, tokens_in)


SPEC = VendorSpec(
    official_url="https://api.openai.com/v1",
    adapters={"": Adapter("adapter", "OpenAIProvider")},
    price_list="openai",
    example_model="gpt-4o-mini",
    unknown_model="gpt-4-nonexistent",
    limit_header="x-ratelimit-{part}-{what}",
    limited_tokens=_limited_tokens,
    error_codes={
        "insufficient_quota": FailureKind.QUOTA_SPENT,
        "billing_hard_limit_reached": FailureKind.QUOTA_SPENT,
        "billing_not_active": FailureKind.QUOTA_SPENT,
        "slow_down": FailureKind.SLOW_DOWN,
        "model_not_found": FailureKind.NOT_FOUND,
        "invalid_api_key": FailureKind.KEY_REJECTED,
    },
    # Reasoning models, which are every gpt-N from 5 on and the o series, do not accept sampling parameters.
    models={
        "gpt-3.5": ModelProfile(),
        "gpt-4": ModelProfile(),
        "gpt-5": ModelProfile(sampling="none"),
        "gpt-5-chat": ModelProfile(),
        "gpt-6": ModelProfile(sampling="none"),
        "o1": ModelProfile(sampling="none"),
        "o3": ModelProfile(sampling="none"),
        "o4": ModelProfile(sampling="none"),
        "": ModelProfile(),
    },
)
