"""Real API keys, from the environment of whoever asked for real providers."""

import os
import re

_FURTHER_VARIABLES = {"gemini": ["GOOGLE_API_KEY"]}


def key_variables(provider: str) -> list[str]:
    """The variables that may hold a provider's key, the first that is set wins: ``OPENAI_API_KEY``."""
    name = re.sub(r"[^A-Z0-9]", "_", provider.upper())
    return [f"{name}_API_KEY", *_FURTHER_VARIABLES.get(provider, [])]


def real_key(provider: str) -> str | None:
    """The provider's key; None where no variable is set."""
    return next((key for name in key_variables(provider) if (key := os.environ.get(name))), None)
