"""What differs between vendors apart from their SDKs: one :class:`VendorSpec` each, in ``<vendor>/spec.py``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from fleet.failures import FailureKind

Sampling = Literal["both", "one", "none"]
#: What a provider's rate-limit header says of one limit.
HeaderPart = Literal["limit", "remaining", "reset"]


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """A model's quirks.

    ``max_output_tokens`` is what "unlimited" is sent as; None leaves the field out, which is the model's
    maximum where the provider does not require the field. ``sampling`` says whether the model accepts
    temperature and top_p together, only one of the two, or none.
    """

    max_output_tokens: int | None = None
    sampling: Sampling = "both"


@dataclass(frozen=True, slots=True)
class Adapter:
    """Where a vendor's adapter is: a module of its folder, and the class in it.

    ``package`` is an SDK that is not installed by default: ``extra`` then says what to install, and ``instead``
    what is there without it."""

    module: str
    class_name: str
    package: str = ""
    extra: str = ""
    instead: str = ""


def _tokens_in_and_out(max_tokens: int | None, tokens_in: float, tokens_out: float) -> float:
    return tokens_in + tokens_out


def _no_form(error: Mapping[str, Any]) -> bool | None:
    return None


def _no_failure(error: Mapping[str, Any]) -> FailureKind | None:
    return None


@dataclass(frozen=True, slots=True)
class VendorSpec:
    """One vendor, as far as no SDK is needed to know it.

    - ``official_url``: where its calls go when no ``base_url`` is set.
    - ``adapters``: by the provider's ``sdk`` setting; "" is the default.
    - ``models``: profiles by the longest prefix of a model's name; "" is what an unknown model gets, the vendor's
      present generation.
    - ``error_codes``: what its error codes, types and reasons mean where they say more than the HTTP status. -
    ``quota_failure``: what a 429 means by its details; None where the status alone decides. - ``is_own_error``:
    whether an ``error`` object with status 5xx is the vendor's own and not that of something in
      between; None where it is not of the vendor's form, and a message with a code makes it one.
    - ``seconds_until_reset``: how long until a quota that is spent for now comes back, from the answer's Date
      header; None where the answer says.
    - ``price_list``: the vendor's name in genai-prices.
    - ``limit_header``: the name of a rate-limit header, with ``{part}`` (see :data:`HeaderPart`) and ``{what}``;
      empty where it sends none.
    - ``limited_tokens``: what a call costs of a limit on all tokens, from ``max_tokens``, input and output tokens.
    - ``cached_input_counts``: whether input from its cache counts against its limits.
    - ``key_variables``: environment variables of its key beside ``<NAME>_API_KEY``.
    - ``example_model``, ``unknown_model``: for checks of an endpoint: a cheap one, and one that does not exist.
    """

    official_url: str
    adapters: Mapping[str, Adapter]
    models: Mapping[str, ModelProfile]
    price_list: str
    example_model: str
    unknown_model: str
    error_codes: Mapping[str, FailureKind] = field(default_factory=lambda: MappingProxyType({}))
    quota_failure: Callable[[Mapping[str, Any]], FailureKind | None] = _no_failure
    is_own_error: Callable[[Mapping[str, Any]], bool | None] = _no_form
    seconds_until_reset: Callable[[str | None], float] | None = None
    limit_header: str = ""
    limited_tokens: Callable[[int | None, float, float], float] = _tokens_in_and_out
    cached_input_counts: bool = True
    key_variables: tuple[str, ...] = ()
