"""What a call cost, from genai-prices' offline data."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from fleet.config import ProviderSettings
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


def cost_of(settings: ProviderSettings, model: str, answer: LlmAnswer) -> Cost:
    """The cost of an answer, unknown (never 0) for a model or an added provider that has no known price.

    ``model`` is the name asked for; the name in the answer may be a dated version or a proxy's own.
    """
    usd = usd_for(settings, model, answer.input_tokens, answer.output_tokens, answer.cached_input_tokens)
    return Cost() if usd is None else Cost(usd, _price_version())


def usd_for(
    settings: ProviderSettings, model: str, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0
) -> float | None:
    """US dollars for that many tokens, the cached ones among the input; None where no price is known."""
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=input_tokens, cache_read_tokens=cached_input_tokens, output_tokens=output_tokens)
    try:
        price = calc_price(usage, model, provider_id=_PRICE_LIST.get(settings.name, settings.name))
    except (LookupError, ValueError):  # an unknown model, or token counts that contradict each other
        return None
    return float(price.total_price)


def load_prices() -> None:
    """Read the price data now, so that the first answer does not wait for it."""
    from genai_prices import Usage, calc_price

    calc_price(Usage(input_tokens=1, output_tokens=1), "gpt-4o", provider_id="openai")
