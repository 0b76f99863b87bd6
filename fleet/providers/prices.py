"""What a call cost, according to the offline data of genai-prices."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fleet.provider_settings import KINDS, Kind, PriceSettings, ProviderSettings
from fleet.providers.base import LlmAnswer
from fleet.providers.registry import spec_of

if TYPE_CHECKING:  # the package's price data is large
    from genai_prices.types import ModelInfo

#: The providers' names of the tier that list prices apply to; Groq's is ``on_demand``.
_STANDARD = frozenset({"default", "standard", "on_demand", "unspecified"})
#: The key under which the price library knows a tier differs between providers.
_TIER_KEYS = ("service_tier", "speed", "processing")
_TIER_CHARACTERS = 40
#: A seller under which the price library looks for the models of all vendors.
_ANY_VENDOR = "litellm"
#: What stands for the price data where the provider's settings have prices.
_OWN_PRICES = "prices of the settings"


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars, and the price data that they were computed with; both None if no price is known.

    ``note`` says why the dollars are not exact; it is empty if they are exact as far as the price data goes. If
    ``simulated``, they are what a provider would have charged, and nothing is paid.
    """

    usd: float | None = None
    price_version: str | None = None
    note: str = ""
    simulated: bool = False


@cache
def _price_version() -> str:
    return f"genai-prices {version('genai-prices')}"


def billed_in(kind: Kind, flavor: str, body: Mapping[str, Any]) -> dict[str, int]:
    """The billed counts in an answer's JSON body, under the price library's names: cache reads, cache writes of
    both lifetimes and reasoning besides input and output. Empty if the library cannot read the body.

    ``flavor`` is the library's name of the API: ``responses`` and ``chat`` for OpenAI's, ``default`` for the
    others.
    """
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider = get_snapshot().find_provider(None, spec_of(kind).price_list, None)
        _, usage = provider.extract_usage(dict(body), api_flavor=flavor)
    except (LookupError, ValueError, TypeError):  # the usage is missing or not as documented
        return {}
    return {name: int(count) for name, count in vars(usage).items() if isinstance(count, int) and count}


def tier_of(*said: object) -> str:
    """The service tier that an answer names, from the values of the fields that may name one; empty for the
    standard tier."""
    tiers = [str(value).lower()[:_TIER_CHARACTERS] for value in said if value]
    return "+".join(tier for tier in tiers if tier not in _STANDARD)


def cost_of(settings: ProviderSettings, model: str, answer: LlmAnswer) -> Cost:
    """The cost of an answer: by the provider's own ``prices`` where they are set, otherwise by the price data;
    None, never 0, for a model or an added provider without a known price.

    ``model`` is the requested name; the name in the answer may be a dated version or a proxy's own. A service tier
    that the price data does not have is priced as the standard tier, with a note.
    """
    if settings.prices is not None:
        return Cost(_by_settings(settings.prices, answer), _OWN_PRICES, simulated=answer.simulated)
    found = _priced(settings, model, answer.billed, answer.tier) if answer.billed else None
    found = found or _priced(settings, model, _counts_of(answer), answer.tier)
    if found is None:
        return Cost(simulated=answer.simulated)
    usd, at_tier = found
    note = "" if at_tier else f"priced at the standard tier; the answer says {answer.tier}"
    return Cost(usd, _price_version(), note, answer.simulated)


def _by_settings(prices: PriceSettings, answer: LlmAnswer) -> float:
    cached = prices.input if prices.cached_input is None else prices.cached_input
    fresh = answer.input_tokens - answer.cached_input_tokens
    millionths = fresh * prices.input + answer.cached_input_tokens * cached + answer.output_tokens * prices.output
    return millionths / 1_000_000


def usd_for(
    settings: ProviderSettings, model: str, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0
) -> float | None:
    """US dollars for these token counts, where cached tokens are part of the input; None if no price is known."""
    answer = LlmAnswer("", model, "stop", input_tokens, output_tokens, cached_input_tokens)
    return cost_of(settings, model, answer).usd


def _counts_of(answer: LlmAnswer) -> dict[str, int]:
    """The counts that every adapter reports, under the price library's names."""
    counts = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
    return counts | {"cache_read_tokens": answer.cached_input_tokens}


def _priced(
    settings: ProviderSettings, model: str, counts: Mapping[str, int], tier: str
) -> tuple[float, bool] | None:
    """US dollars, and whether they are the price of the tier; None if no price is known."""
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    return _price_of(_seller(settings), model, tuple(counts.items()), tier, minute)


def _seller(settings: ProviderSettings) -> str:
    """The provider's name in the price data."""
    return spec_of(settings.name).price_list if settings.name in KINDS else settings.name


@lru_cache(maxsize=64)  # an answer's price is asked for when it is counted and again for the result
def _price_of(
    seller: str, model: str, counts: tuple[tuple[str, int], ...], tier: str, minute: datetime
) -> tuple[float, bool] | None:
    """The price at that minute."""
    from genai_prices import Usage, calc_price

    context = dict.fromkeys(_TIER_KEYS, tier) if tier else {}
    try:
        price = calc_price(
            Usage(**dict(counts)),
            model,
            provider_id=seller,
            genai_request_timestamp=minute,
            price_context=context,
        )
    except (LookupError, ValueError):  # an unknown model, or token counts that contradict each other
        return None
    return float(price.total_price), not tier or _has_prices_of(price.model, context, minute)


def _has_prices_of(model: "ModelInfo", context: Mapping[str, str], now: datetime) -> bool:
    """Whether the price data has current prices of the model in that context; the library does not report this."""
    return any(
        variant.when.items() <= context.items() and (variant.constraint is None or variant.constraint.active(now))
        for variant in model.price_variants or ()
    )


def load_prices(settings: ProviderSettings) -> None:
    """Read the price data now, so that the first answer does not wait for it, and keep what this provider's calls
    need.

    To be called before its SDK is loaded, which then takes the memory that the other vendors' data took.
    """
    from genai_prices import Usage, calc_price
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    whole, vendor, seller = DataSnapshot([*providers], False), spec_of(settings.kind).price_list, _seller(settings)
    needed: set[str] = set()
    for name in {vendor, seller}:
        with suppress(LookupError):  # an added provider without known prices
            found = whole.find_provider(None, name, None)
            needed |= {found.id, *(found.fallback_model_providers or ())}
    if seller != _ANY_VENDOR:
        providers[:] = [provider for provider in providers if provider.id in needed]
    known = whole.find_provider(None, vendor, None)
    calc_price(Usage(input_tokens=1, output_tokens=1), known.models[0].id, provider_id=known.id)
