"""What differs between vendors apart from their SDKs: one :class:`VendorSpec` each, in ``<vendor>/spec.py``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from re import Pattern
from types import MappingProxyType
from typing import Any, Literal

from fleet.failures import FailureKind
from fleet.provider_settings import ProviderSettings

Sampling = Literal["both", "one", "none"]
#: The value of one limit that a provider's rate-limit header states.
HeaderPart = Literal["limit", "remaining", "reset"]


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """The thinking budgets that a model takes: ``least`` to ``most`` tokens, and the values in ``also``.
    ``below_max_tokens``: one that is less than the request's max_tokens."""

    least: int
    most: int
    also: tuple[int, ...] = ()
    below_max_tokens: bool = False


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """The special properties of a model.

    ``max_output_tokens`` is the value sent for "unlimited"; None omits the field, which means the model's maximum
    if the provider does not require the field. ``sampling`` says whether the model accepts temperature and top_p
    together, only one of the two, or none. ``takes_schema``: it can be bound to a JSON Schema; otherwise the
    schema stands in its system prompt. ``window_has_output``: a request is refused if its input and its
    max_tokens together exceed the context window, not only if its input does.

    ``efforts`` are the values of reasoning_effort that it takes; None if they are not known: then any is sent.
    ``budget`` is None if it takes no thinking_budget. ``effort_or_budget``: it takes one of the two, not both.
    ``adaptive_thinking``: an effort also needs thinking to be turned on. ``takes_stop``: it takes stop texts.
    """

    max_output_tokens: int | None = None
    sampling: Sampling = "both"
    takes_schema: bool = True
    window_has_output: bool = False
    efforts: tuple[str, ...] | None = None
    budget: ThinkingBudget | None = None
    effort_or_budget: bool = False
    adaptive_thinking: bool = False
    takes_stop: bool = True


@dataclass(frozen=True, slots=True)
class OptionSupport:
    """Which of the options of :class:`fleet.model_options.ModelOptions` an API has.

    ``refused`` says of the others what can be done instead. ``set_here`` are the fields of its requests, with a
    period between a field and one within it, that ``provider_options`` may not contain, since the fleet sets them.
    ``max_stops`` is how many stop texts it takes; ``blank_stops``: also of spaces and line ends alone.
    """

    refused: Mapping[str, str]
    set_here: frozenset[str] = frozenset()
    max_stops: int = 32
    blank_stops: bool = True


def _no_options(provider: ProviderSettings) -> OptionSupport:
    names = ("reasoning_effort", "thinking_budget", "stop", "seed", "provider_options")
    return OptionSupport(dict.fromkeys(names, "remove it"))


@dataclass(frozen=True, slots=True)
class Adapter:
    """Where a vendor's adapter is: a module of its folder, and the class in it.

    ``package`` is an SDK that is not installed by default; ``extra`` says what to install for it, and ``instead``
    which SDK is used without it.
    """

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
    """One vendor, as far as it can be described without its SDK.

    - ``official_url``: the address of its calls if no ``base_url`` is set.
    - ``adapters``: by the provider's ``sdk`` setting; "" is the default.
    - ``models``: profiles by the longest prefix of a model's name; "" is for an unknown model, which is treated as
      one of the vendor's current generation.
    - ``error_codes``: the failure kinds of its error codes, types and reasons that say more than the HTTP status.
    - ``says_too_long``: matches the message of a 400 for an input that exceeds the model's context window, where
      no code says so; None if a code does.
    - ``quota_failure``: the failure kind of a 429 by its details; None if the status alone decides.
    - ``is_own_error``: whether an ``error`` object with status 5xx is the vendor's own and not from something in
      between; None if it does not have the vendor's form: a message with a code then makes it the vendor's own.
    - ``seconds_until_reset``: seconds until a spent quota is reset, from the answer's Date header; None if the
      answer itself says.
    - ``price_list``: the vendor's name in genai-prices.
    - ``limit_header``: the name of a rate-limit header, with ``{part}`` (see :data:`HeaderPart`) and ``{what}``;
      empty if it sends none.
    - ``limited_tokens``: how much of a limit on all tokens a call uses, from ``max_tokens``, input tokens and
      output tokens.
    - ``cached_input_counts``: whether input from its cache counts against its limits.
    - ``options``: which options its API has, with the provider's settings.
    - ``key_variables``: environment variables of its key besides ``<NAME>_API_KEY``.
    - ``example_model``, ``unknown_model``: for checks of an endpoint: a cheap model, and one that does not exist.
    """

    official_url: str
    adapters: Mapping[str, Adapter]
    models: Mapping[str, ModelProfile]
    price_list: str
    example_model: str
    unknown_model: str
    error_codes: Mapping[str, FailureKind] = field(default_factory=lambda: MappingProxyType({}))
    says_too_long: Pattern[str] | None = None
    quota_failure: Callable[[Mapping[str, Any]], FailureKind | None] = _no_failure
    is_own_error: Callable[[Mapping[str, Any]], bool | None] = _no_form
    seconds_until_reset: Callable[[str | None], float] | None = None
    limit_header: str = ""
    limited_tokens: Callable[[int | None, float, float], float] = _tokens_in_and_out
    cached_input_counts: bool = True
    options: Callable[[ProviderSettings], OptionSupport] = _no_options
    key_variables: tuple[str, ...] = ()
