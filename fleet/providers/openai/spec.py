"""OpenAI without its SDK. Source: OpenAI "Rate limits"."""

import re

from fleet.providers.openai.error_codes import ERROR_CODES
from fleet.providers.openai.models import MODELS
from fleet.providers.openai.options import openai_options
from fleet.providers.spec import Adapter, VendorSpec


def _limited_tokens(max_tokens: int | None, tokens_in: float, tokens_out: float) -> float:
    """The larger of ``max_tokens`` and OpenAI's own estimate of the input, charged when the call arrives."""
    return max(max_tokens or 0, tokens_in)


SPEC = VendorSpec(
    official_url="https://api.openai.com/v1",
    adapters={"": Adapter("adapter", "OpenAIProvider")},
    price_list="openai",
    example_model="gpt-6-luna",
    unknown_model="gpt-4-nonexistent",
    limit_header="x-ratelimit-{part}-{what}",
    limited_tokens=_limited_tokens,
    error_codes=ERROR_CODES,
    # OpenAI and Groq have a code, llama.cpp a type, vLLM and Mistral neither.
    says_too_long=re.compile(r"maximum context length", re.IGNORECASE),
    models=MODELS,
    options=openai_options,
)
