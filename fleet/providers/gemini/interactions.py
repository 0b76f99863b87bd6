"""Gemini through the Interactions API, whose calls can continue in the background.

Google offers that for its standard models, and keeps such a call for 55 days, or for one day in the free tier.
Sources: "Background execution", "Interactions API" and its reference, all at ai.google.dev.

The SDK makes the requests and reports failures; answers are read from their JSON, as with OpenAI.
"""

from collections.abc import Awaitable
from typing import Any
from urllib.parse import quote

import httpx2
from google import genai

from fleet.errors import ProviderError
from fleet.model_options import ModelOptions
from fleet.provider_settings import ProviderSettings
from fleet.providers.background_calls import FAILED, Shown, carried_out
from fleet.providers.base import FinishReason, LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.error_mapping import MISREAD, answered_with_error, misread, not_answered, not_the_api
from fleet.providers.gemini.answers import TIER_HEADER
from fleet.providers.model_profiles import profile_of, sampling_of
from fleet.providers.options import with_provider_options
from fleet.providers.prices import billed_in, tier_of
from fleet.providers.response_bodies import count_in, object_answered, object_in, objects_in, text_in
from fleet.redaction import excerpt

#: The finish reason by status; ``incomplete`` means that the answer was cut off at max_output_tokens.
_FINISH: dict[str, FinishReason] = {"completed": "stop", "incomplete": "length", "budget_exceeded": "length"}


class Interactions:
    """Calls in the background, with a client of one key."""

    def __init__(self, settings: ProviderSettings, client: genai.Client) -> None:
        self._name = settings.name
        self._calls: Any = client.aio.interactions.with_raw_response

    async def complete(
        self, request: LlmRequest, timeout_seconds: float, resume_handle: ResumeHandle
    ) -> LlmAnswer:
        """Start an interaction, or pick one up by its id, and poll it until it is done."""

        async def begin() -> Shown:
            headers = {"Idempotency-Key": request.idempotency_key}
            body = _new_interaction(request)
            creating = self._calls.create(
                **body,
                extra_headers=headers,
                extra_body=_further(body, request.model_options),
                timeout=timeout_seconds,
            )
            return await self._shown(creating)

        async def look(interaction_id: str) -> Shown:
            # The SDK does not quote it in the path.
            return await self._shown(self._calls.get(quote(interaction_id, safe=""), timeout=timeout_seconds))

        shown = await carried_out(resume_handle, begin, look)
        return self._answer(request, shown)

    async def _shown(self, asking: Awaitable[Any]) -> Shown:
        try:
            raw: httpx2.Response = (await asking).http_response
        except Exception as error:
            # The SDK has separate exception classes here, and does not wrap the transport's exceptions.
            raise self._error_of(error) from error
        body = object_answered(raw.headers.get("content-type", ""), raw.content)
        if body is None or not text_in(body, "id") or not text_in(body, "status"):
            raise not_the_api(self._name, excerpt(raw.text, 120))
        return Shown(body, raw.headers)

    def _error_of(self, failure: Exception) -> ProviderError:
        answer = getattr(failure, "response", None)
        if isinstance(answer, httpx2.Response):
            return answered_with_error("gemini", self._name, answer.status_code, answer.headers, answer.text)
        if isinstance(failure, MISREAD):
            return misread(self._name, failure)
        return not_answered(self._name, failure)

    def _answer(self, request: LlmRequest, shown: Shown) -> LlmAnswer:
        self._refuse_failed(shown)
        usage = object_in(shown.body, "usage")
        return LlmAnswer(
            text="".join(text_in(part, "text") for part in _parts(shown.body) if part.get("type") == "text"),
            model=text_in(shown.body, "model") or request.model,
            finish_reason=_FINISH.get(shown.status, "other"),
            input_tokens=count_in(usage, "total_input_tokens"),
            output_tokens=count_in(usage, "total_output_tokens") + count_in(usage, "total_thought_tokens"),
            cached_input_tokens=count_in(usage, "total_cached_tokens"),
            billed=_billed(usage),
            headers=dict(shown.headers),
            tier=tier_of(shown.headers.get(TIER_HEADER)),
        )

    def _refuse_failed(self, shown: Shown) -> None:
        """Raise for an interaction that failed with status 200: its ``errors`` say why."""
        if shown.status in FAILED:
            errors = objects_in(shown.body, "errors")
            raise answered_with_error("gemini", self._name, 500, {}, {"error": errors[0] if errors else {}})


def _new_interaction(request: LlmRequest) -> dict[str, Any]:
    """The request body, without fields that have no value."""
    profile = profile_of("gemini", request.model)
    temperature, top_p = sampling_of(profile, request.temperature, request.top_p)
    limit = request.max_tokens or profile.max_output_tokens
    options = request.model_options
    wanted = {
        "temperature": temperature,
        "top_p": top_p,
        "max_output_tokens": limit,
        "stop_sequences": options.stop,
        "seed": options.seed,
        "thinking_level": options.reasoning_effort,
    }
    bound: dict[str, Any] = {}
    if request.output_schema is not None:
        text = {"type": "text", "mime_type": "application/json", "schema": request.output_schema}
        bound = {"response_format": text}
    return bound | {
        "model": request.model.removeprefix("models/"),  # generateContent accepts names with and without it
        "system_instruction": request.system_prompt,
        "input": request.user_message,
        "generation_config": {name: value for name, value in wanted.items() if value is not None},
        "background": True,
        "store": True,  # a call that is not stored cannot continue in the background
    }


def _further(body: dict[str, Any], options: ModelOptions) -> dict[str, Any] | None:
    """The fields that provider_options add or extend, as a whole: the SDK replaces them in the body."""
    if options.provider_options is None:
        return None
    spelled = {"generationConfig": "generation_config"}
    named = {spelled.get(name, name): value for name, value in options.provider_options.items()}
    whole = with_provider_options(body, ModelOptions(provider_options=named))
    return {name: whole[name] for name in named}


def _parts(interaction: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of the model's output among an interaction's steps; thoughts are separate steps."""
    outputs = [step for step in objects_in(interaction, "steps") if step.get("type") == "model_output"]
    return [part for output in outputs for part in objects_in(output, "content")]


def _billed(usage: dict[str, Any]) -> dict[str, int]:
    """The billed counts under the names of generateContent, which the price library reads: both APIs have the same
    prices."""
    names = {
        "promptTokenCount": "total_input_tokens",
        "cachedContentTokenCount": "total_cached_tokens",
        "candidatesTokenCount": "total_output_tokens",
        "thoughtsTokenCount": "total_thought_tokens",
    }
    counted = {name: count_in(usage, there) for name, there in names.items() if there in usage}
    return billed_in("gemini", "default", {"usageMetadata": counted} if counted else {})
