"""What a provider is asked for an assistant: built in one place, for the worker that calls and for the commands
that show it."""

from fleet.contracts import Assignment
from fleet.pipeline.prompts import build_system_prompt, build_user_message
from fleet.providers.base import LlmRequest


def request_for(assignment: Assignment, model: str, idempotency_key: str = "") -> LlmRequest:
    """The request to a model that makes an assistant's call."""
    assistant = assignment.assistant
    return LlmRequest(
        model=model,
        system_prompt=build_system_prompt(assignment),
        user_message=build_user_message(assignment),
        temperature=assistant.temperature,
        top_p=assistant.top_p,
        max_tokens=assistant.max_tokens,
        idempotency_key=idempotency_key,
    )
