"""The models that exist, as data: which refuse temperature, how long their answers may be.

Its own table and not the fleet's, so that a wrong profile there is refused here as it would be in
production. A model is found by the longest prefix of its name.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """``sampling``: which of temperature and top_p it takes: "both", "one" (not together) or "none"."""

    max_output_tokens: int
    sampling: str = "both"


_OPENAI = {
    "gpt-3.5-turbo": Model(4_096),
    "gpt-4": Model(8_192),
    "gpt-4-turbo": Model(4_096),
    "gpt-4o": Model(16_384),
    "gpt-4o-mini": Model(16_384),
    "gpt-4.1": Model(32_768),
    "gpt-4.1-mini": Model(32_768),
    "gpt-4.1-nano": Model(32_768),
    "gpt-5": Model(128_000, "none"),
    "gpt-5-mini": Model(128_000, "none"),
    "gpt-5-nano": Model(128_000, "none"),
    "gpt-5.1": Model(128_000, "none"),
    "gpt-5.4": Model(128_000, "none"),
    "gpt-5.4-mini": Model(128_000, "none"),
    "gpt-5.5": Model(128_000, "none"),
    "gpt-6-sol": Model(128_000, "none"),
    "gpt-6-luna": Model(128_000, "none"),
    "gpt-6.2-sol": Model(128_000, "none"),
    "gpt-5-chat-latest": Model(16_384),
    "o1": Model(100_000, "none"),
    "o3": Model(100_000, "none"),
    "o3-mini": Model(100_000, "none"),
    "o4-mini": Model(100_000, "none"),
}
_ANTHROPIC = {
    "claude-3-haiku-20240307": Model(4_096),
    "claude-3-opus-20240229": Model(4_096),
    "claude-3-opus-latest": Model(4_096),
    "claude-3-5-sonnet": Model(8_192),
    "claude-3-5-haiku": Model(8_192),
    "claude-3-7-sonnet": Model(64_000),
    "claude-sonnet-4-0": Model(64_000),
    "claude-sonnet-4-20250514": Model(64_000),
    "claude-sonnet-4-5": Model(64_000, "one"),
    "claude-haiku-4-5": Model(64_000, "one"),
    "claude-opus-4-0": Model(32_000),
    "claude-opus-4-20250514": Model(32_000),
    "claude-opus-4-1": Model(32_000, "one"),
    "claude-opus-4-5": Model(64_000, "one"),
    "claude-sonnet-4-6": Model(128_000, "one"),
    "claude-opus-4-6": Model(128_000, "one"),
    "claude-opus-4-7": Model(128_000, "none"),
    "claude-opus-4-8": Model(128_000, "none"),
    "claude-haiku-5-5": Model(64_000, "none"),
    "claude-sonnet-5": Model(128_000, "none"),
    "claude-sonnet-5-5": Model(128_000, "none"),
    "claude-opus-5": Model(128_000, "none"),
    "claude-opus-5-5": Model(128_000, "none"),
    "claude-fable-5": Model(128_000, "none"),
}
_GEMINI = {
    "gemini-1.5-flash": Model(8_192),
    "gemini-1.5-pro": Model(8_192),
    "gemini-2.0-flash": Model(8_192),
    "gemini-2.5-flash": Model(65_536),
    "gemini-2.5-flash-lite": Model(65_536),
    "gemini-2.5-pro": Model(65_536),
    "gemini-3-pro": Model(65_536),
    "gemini-3-flash": Model(65_536),
}
MODELS = {"openai": _OPENAI, "anthropic": _ANTHROPIC, "gemini": _GEMINI}
_ANY = Model(32_768)


def find_model(provider: str, name: str) -> Model | None:
    """The model of that name, None if there is none; an added provider has any model."""
    table = MODELS.get(provider)
    if table is None:
        return _ANY if name else None
    if known := table.get(name):
        return known
    # A dated or "-latest" version of a family; what follows the prefix must begin with a dash.
    families = [
        prefix for prefix in table if name.startswith(f"{prefix}-") and _is_version(name[len(prefix) + 1 :])
    ]
    return table[max(families, key=len)] if families else None


def _is_version(suffix: str) -> bool:
    return suffix in ("latest", "preview") or suffix.replace("-", "").isdigit() or suffix.startswith("preview-")
