"""What a call cost, from genai-prices' offline data."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from fleet.config import Kind, ProviderSettings
from fleet.providers.base import LlmAnswer

_PRICE_LIST = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars, and the price data that they were computed with; both None where no price is known."""

    usd: float | None = None
    price_version: str | None = None


@cache
def _price_version() -> str:
    return f"genai-prices {version('genai-prices')}"


def billed_in(kind: Kind, flavor: str, body: Mapping[str, Any]) -> dict[str, int]:
    """What an answer's JSON body says is charged for, by the price library's names: cache reads, cache writes of
    both lifetimes and reasoning beside input and output. Empty where the library cannot read it.

    ``flavor`` is the library's name of the API: ``responses`` and ``chat`` of OpenAI's, ``default`` of the others.
    """
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider = get_snapshot().find_provider(None, _PRICE_LIST[kind], None)
        _, usage = provider.extract_usage(dict(body), api_flavor=flavor)
    except (LookupError, ValueError, TypeError):  # usage that is missing, or not as documented
        return {}
    return {name: int(count) for name, count in vars(usage).items() if isinstance(count, int) and count}


def cost_of(settings: ProviderSettings, model: str, answer: LlmAnswer) -> Cost:
    """The cost of an answer, unknown (never 0) for a model or an added provider that has no known price.

    ``model`` is the name asked for; the name in the answer may be a dated version or a proxy's own.
    """
    usd = _usd(settings, model, answer.billed) if answer.billed else None
    if usd is None:
        usd = usd_for(settings, model, answer.input_tokens, answer.output_tokens, answer.cached_input_tokens)
    return Cost() if usd is None else Cost(usd, _price_version())


def usd_for(
    settings: ProviderSettings, model: str, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0
) -> float | None:
    """US dollars for that many tokens, the cached ones among the input; None where no price is known."""
    counts = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    return _usd(settings, model, counts | {"cache_read_tokens": cached_input_tokens})


def _usd(settings: ProviderSettings, model: str, counts: Mapping[str, int]) -> float | None:
    from genai_prices import Usage, calc_price

    try:
        price = calc_price(Usage(**counts), model, provider_id=_PRICE_LIST.get(settings.name, settings.name))
    except (LookupError, ValueError):  # an unknown model, or token counts that contradict each other
        return None
    return float(price.total_price)


def load_prices() -> None:
    """Read the price data now, so that the first answer does not wait for it."""
    from genai_prices import Usage, calc_price

    calc_price(Usage(input_tokens=1, output_tokens=1), "gpt-4o", provider_id="openai")
