"""What differs between models, as data.

Sources: the providers' model pages. A model is found by the longest prefix of its name, so dated versions
(``claude-3-5-haiku-20241022``) share their family's row; a model that no row knows gets its kind's last
row, which describes that provider's present generation.
"""

from dataclasses import dataclass
from typing import Literal

from fleet.config import Kind

Sampling = Literal["both", "one", "none"]


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """A model's quirks.

    ``max_output_tokens`` is what "unlimited" is sent as; None leaves the field out, which is the model's
    maximum where the provider does not require the field. ``sampling`` says whether the model accepts
    temperature and top_p together, only one of the two, or none.
    """

    max_output_tokens: int | None = None
    sampling: Sampling = "both"


# Reasoning models, which is every gpt-N from 5 on and the o series, choose their sampling themselves.
_OPENAI: dict[str, ModelProfile] = {
    "gpt-3.5": ModelProfile(),
    "gpt-4": ModelProfile(),
    "gpt-5": ModelProfile(sampling="none"),
    "gpt-5-chat": ModelProfile(),
    "gpt-6": ModelProfile(sampling="none"),
    "o1": ModelProfile(sampling="none"),
    "o3": ModelProfile(sampling="none"),
    "o4": ModelProfile(sampling="none"),
    "": ModelProfile(),
}
# temperature and top_p were taken out of the API with Opus 4.7; newer models answer 400 to either.
_ANTHROPIC: dict[str, ModelProfile] = {
    "claude-3-haiku": ModelProfile(4_096),
    "claude-3-sonnet": ModelProfile(4_096),
    "claude-3-opus": ModelProfile(4_096),
    "claude-3-5-sonnet": ModelProfile(8_192),
    "claude-3-5-haiku": ModelProfile(8_192),
    "claude-3-7-sonnet": ModelProfile(64_000),
    "claude-sonnet-4": ModelProfile(64_000),
    "claude-sonnet-4-5": ModelProfile(64_000, sampling="one"),
    "claude-sonnet-4-6": ModelProfile(128_000, sampling="one"),
    "claude-haiku-4-5": ModelProfile(64_000, sampling="one"),
    "claude-opus-4": ModelProfile(32_000),
    "claude-opus-4-1": ModelProfile(32_000, sampling="one"),
    "claude-opus-4-5": ModelProfile(64_000, sampling="one"),
    "claude-opus-4-6": ModelProfile(128_000, sampling="one"),
    "claude-opus-4-7": ModelProfile(128_000, sampling="none"),
    "claude-opus-4-8": ModelProfile(128_000, sampling="none"),
    "claude-sonnet-5": ModelProfile(128_000, sampling="none"),
    "claude-opus-5": ModelProfile(128_000, sampling="none"),
    "": ModelProfile(64_000, sampling="none"),
}
_GEMINI: dict[str, ModelProfile] = {
    "gemini-1.5": ModelProfile(8_192),
    "gemini-2.0": ModelProfile(8_192),
    "gemini-2.5": ModelProfile(65_536),
    "": ModelProfile(65_536),
}
_TABLES: dict[Kind, dict[str, ModelProfile]] = {
    "openai": _OPENAI,
    "anthropic": _ANTHROPIC,
    "gemini": _GEMINI,
}


def profile_of(kind: Kind, model: str) -> ModelProfile:
    """The profile of a model, by the longest prefix of its name."""
    table = _TABLES[kind]
    name = model.removeprefix("models/")
    return table[max((prefix for prefix in table if name.startswith(prefix)), key=len)]


def sampling_of(
    profile: ModelProfile, temperature: float, top_p: float | None
) -> tuple[float | None, float | None]:
    """The temperature and top_p to send to a model of this profile; None means: leave it out.

    Where only one of the two is accepted, top_p wins if the assistant sets it, since temperature always
    has a default.
    """
    if profile.sampling == "none":
        return None, None
    if profile.sampling == "one" and top_p is not None:
        return None, top_p
    return temperature, top_p
