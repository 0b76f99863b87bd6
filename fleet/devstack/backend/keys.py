"""Real API keys, from the environment of the user who asked for real providers."""

import os
import re

from fleet.provider_settings import KINDS
from fleet.providers.registry import spec_of


def key_variables(provider: str) -> list[str]:
    """The variables that may hold a provider's key, such as ``OPENAI_API_KEY``; the first one that is set wins."""
    name = re.sub(r"[^A-Z0-9]", "_", provider.upper())
    further = spec_of(provider).key_variables if provider in KINDS else ()
    return [f"{name}_API_KEY", *further]


def key_variable(provider: str) -> str:
    """The variable to set for a provider's key."""
    return key_variables(provider)[0]


def real_key(provider: str) -> str | None:
    """The provider's key; None if no variable is set."""
    return next((key for name in key_variables(provider) if (key := os.environ.get(name))), None)
