"""A model's profile, from its vendor's table. A model is found by the longest prefix of its name, so dated
versions (``claude-3-5-haiku-20241022``) share their family's row."""

import json

from fleet.provider_settings import Kind
from fleet.providers.base import LlmRequest
from fleet.providers.registry import spec_of
from fleet.providers.spec import ModelProfile


def profile_of(kind: Kind, model: str) -> ModelProfile:
    """The profile of a model; an unknown model gets the row of its vendor's current generation."""
    table = spec_of(kind).models
    name = model.removeprefix("models/")
    return table[max((prefix for prefix in table if name.startswith(prefix)), key=len)]


def system_prompt_for(request: LlmRequest, *, takes_schema: bool) -> str:
    """The system prompt to send; with the schema in it for a model that cannot be bound to one."""
    if request.output_schema is None or takes_schema:
        return request.system_prompt
    schema = json.dumps(request.output_schema, ensure_ascii=False)
    return (
        f"{request.system_prompt}\n\nAnswer with one JSON object and nothing else: no explanation, no Markdown. "
        f"It must match this JSON Schema:\n{schema}"
    )


def sampling_of(
    profile: ModelProfile, temperature: float, top_p: float | None
) -> tuple[float | None, float | None]:
    """The temperature and top_p to send to a model with this profile; None means that the field is not sent.

    If the model accepts only one of the two, top_p wins if the assistant sets it, since temperature always has a
    default.
    """
    if profile.sampling == "none":
        return None, None
    if profile.sampling == "one" and top_p is not None:
        return None, top_p
    return temperature, top_p
