"""Anthropic without its SDK. Sources: Anthropic's "Errors", "Rate limits" and model pages."""

import re

from fleet.providers.anthropic.error_codes import ERROR_CODES
from fleet.providers.anthropic.models import MODELS
from fleet.providers.anthropic.options import anthropic_options
from fleet.providers.spec import Adapter, VendorSpec

SPEC = VendorSpec(
    official_url="https://api.anthropic.com",
    adapters={"": Adapter("adapter", "AnthropicProvider")},
    price_list="anthropic",
    example_model="claude-haiku-4-5",
    unknown_model="claude-3-nonexistent",
    limit_header="anthropic-ratelimit-{what}-{part}",
    # Input and output have separate limits; output counts while it is generated.
    cached_input_counts=False,
    error_codes=ERROR_CODES,
    says_too_long=re.compile(r"prompt is too long|exceed context limit", re.IGNORECASE),
    models=MODELS,
    options=anthropic_options,
)
