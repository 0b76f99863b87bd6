"""What a provider is asked for an assistant: built in one place, for the worker that calls and for the commands
that show it."""

import json
from dataclasses import asdict

from fleet.contracts import LATER_FIELDS, Assignment, Assistant, ModelChoice
from fleet.model_options import ModelOptions
from fleet.pipeline.prompts import build_system_prompt, build_user_message
from fleet.providers.base import LlmRequest


def identity_of(request: LlmRequest) -> str:
    """What makes a request the same call as another: everything but its key, as JSON. Fields that earlier releases
    do not know count only where they are set, so that the calls that those know keep their identity."""
    asked = {name: value for name, value in asdict(request).items() if name != "idempotency_key"}
    if request.options is not None:
        asked["options"] = request.options.given
    return json.dumps(
        {name: value for name, value in asked.items() if name not in LATER_FIELDS or value is not None}
    )


def options_for(assistant: Assistant, choice: ModelChoice) -> ModelOptions | None:
    """The options of an assistant's call to this model: to its own model all of them, to one of its fallbacks
    those that it takes."""
    if assistant.options is None or (choice.provider, choice.model) == (assistant.provider, assistant.model):
        return assistant.options
    same = (each for each in assistant.fallback if (each.provider, each.model) == (choice.provider, choice.model))
    return assistant.options.without(next(same, choice).without)


def request_for(assignment: Assignment, choice: ModelChoice, idempotency_key: str = "") -> LlmRequest:
    """The request to a model that makes an assistant's call."""
    assistant = assignment.assistant
    return LlmRequest(
        model=choice.model,
        system_prompt=build_system_prompt(assignment),
        user_message=build_user_message(assignment),
        temperature=assistant.temperature,
        top_p=assistant.top_p,
        max_tokens=assistant.max_tokens,
        idempotency_key=idempotency_key,
        output_schema=assistant.output_schema,
        options=options_for(assistant, choice),
    )
