"""Acme, apart from how it is called."""

from fleet.failures import FailureKind
from fleet.providers.spec import Adapter, ModelProfile, VendorSpec


def _limited_tokens(max_tokens: int | None, tokens_in: float, tokens_out: float) -> float:
    """Output is free of limits."""
    return tokens_in


SPEC = VendorSpec(
    official_url="https://api.acme.invalid",
    adapters={"": Adapter("adapter", "AcmeProvider")},
    models={"": ModelProfile()},
    price_list="acme",
    example_model="anvil-1",
    unknown_model="anvil-0",
    error_codes={"out_of_credit": FailureKind.QUOTA_SPENT, "too_fast": FailureKind.SLOW_DOWN},
    limit_header="acme-{what}-{part}",
    limited_tokens=_limited_tokens,
)
