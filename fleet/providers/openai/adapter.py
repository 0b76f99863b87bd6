"""OpenAI and every endpoint with an OpenAI-compatible API (vLLM, Ollama, llama.cpp, Groq, Mistral …).

OpenAI itself is called through the Responses API, other endpoints through chat completions, which all of them
have; the provider's ``api`` setting overrides either.

The SDK makes the requests and reports failures; answers are read from their JSON. The SDK's models of the answers
take half a second to load and build in each process, and the fleet needs about a dozen of their fields.
"""

from typing import Any
from urllib.parse import quote

import httpx2
import openai

from fleet.errors import ProviderError
from fleet.provider_settings import ProviderSettings
from fleet.providers.background_calls import FAILED, Shown, carried_out
from fleet.providers.base import FinishReason, LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.connections import NO_KEY, client_options
from fleet.providers.error_mapping import MISREAD, answered_with_error, misread, not_answered, not_the_api
from fleet.providers.model_profiles import profile_of, sampling_of, system_prompt_for
from fleet.providers.openai.response_format import chat_format, responses_format
from fleet.providers.openai.spec import SPEC
from fleet.providers.options import with_provider_options
from fleet.providers.prices import billed_in, tier_of
from fleet.providers.response_bodies import count_in, object_answered, object_in, objects_in, text_in
from fleet.redaction import excerpt

#: The exceptions of a client call.
_FAILURES = (openai.APIStatusError, openai.APIConnectionError, *MISREAD)
_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "refusal"}


class OpenAIProvider:
    """A client of one OpenAI-compatible endpoint with one key."""

    def __init__(self, settings: ProviderSettings, api_key: str) -> None:
        self._settings = settings
        self._client = openai.AsyncOpenAI(
            api_key=api_key or NO_KEY,
            base_url=settings.base_url or SPEC.official_url,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(**client_options(with_key=settings.needs_key)),
        )

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle | None = None
    ) -> LlmAnswer:
        """Make one call; see :class:`fleet.providers.base.Provider`."""
        try:
            if self._settings.openai_api != "responses":
                return await self._chat(request, timeout_seconds)
            if self._settings.background and resume_handle is not None:
                return await self._respond_in_background(request, timeout_seconds, resume_handle)
            return await self._respond(request, timeout_seconds)
        except _FAILURES as error:
            raise self._error_of(error) from error

    def _error_of(self, failure: Exception) -> ProviderError:
        """The ProviderError for an exception of the client."""
        if isinstance(failure, openai.APIStatusError):
            answer = failure.response
            said = failure.body or answer.text
            return answered_with_error("openai", self._settings.name, answer.status_code, answer.headers, said)
        if isinstance(failure, openai.APIConnectionError):
            return not_answered(self._settings.name, failure)
        return misread(self._settings.name, failure)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _body(self, request: LlmRequest, limit_field: str) -> dict[str, Any]:
        """The fields that both APIs share, without those that have no value."""
        profile = profile_of("openai", request.model)
        temperature, top_p = sampling_of(profile, request.temperature, request.top_p)
        limit = request.max_tokens or profile.max_output_tokens
        wanted = {"temperature": temperature, "top_p": top_p, limit_field: limit}
        return {"model": request.model, **{name: value for name, value in wanted.items() if value is not None}}

    def _new_response(self, request: LlmRequest) -> dict[str, Any]:
        takes_schema = profile_of("openai", request.model).takes_schema
        texts: dict[str, Any] = {
            "instructions": system_prompt_for(request, takes_schema=takes_schema),
            "input": request.user_message,
        }
        if request.output_schema is not None and takes_schema:
            texts |= {"text": responses_format(request.output_schema)}
        if (effort := request.model_options.reasoning_effort) is not None:
            texts |= {"reasoning": {"effort": effort}}
        return with_provider_options(texts | self._body(request, "max_output_tokens"), request.options)

    async def _post(
        self, path: str, body: dict[str, Any], request: LlmRequest, timeout_seconds: float
    ) -> httpx2.Response:
        return await self._client.post(
            path,
            cast_to=httpx2.Response,
            body=body,
            options={"headers": {"Idempotency-Key": request.idempotency_key}, "timeout": timeout_seconds},
        )

    async def _respond(self, request: LlmRequest, timeout_seconds: float) -> LlmAnswer:
        raw = await self._post("/responses", self._new_response(request), request, timeout_seconds)
        return self._answer(request, self._response_in(raw), dict(raw.headers))

    async def _respond_in_background(
        self, request: LlmRequest, timeout_seconds: float, resume_handle: ResumeHandle
    ) -> LlmAnswer:
        """Start a response at OpenAI, or pick one up by its id, and poll it until it is done."""

        async def begin() -> Shown:
            body = self._new_response(request) | {"background": True, "store": True}
            return self._shown(await self._post("/responses", body, request, timeout_seconds))

        async def look(response_id: str) -> Shown:
            try:
                return self._shown(await self._retrieved(response_id, timeout_seconds))
            except _FAILURES as failure:
                raise self._error_of(failure) from failure

        shown = await carried_out(resume_handle, begin, look)
        return self._answer(request, shown.body, dict(shown.headers))

    async def _retrieved(self, response_id: str, timeout_seconds: float) -> httpx2.Response:
        return await self._client.get(
            f"/responses/{quote(response_id, safe='')}",
            cast_to=httpx2.Response,
            options={"timeout": timeout_seconds},
        )

    def _object_in(self, raw: httpx2.Response) -> dict[str, Any]:
        """The JSON object in the answer; raises if the answer is something else."""
        body = object_answered(raw.headers.get("content-type", ""), raw.content)
        if body is None:
            raise not_the_api(self._settings.name, excerpt(raw.text, 120))
        return body

    def _response_in(self, raw: httpx2.Response) -> dict[str, Any]:
        """The response in the answer; raises if the answer is something else."""
        response = self._object_in(raw)
        if not text_in(response, "id") or not isinstance(response.get("output"), list):
            raise not_the_api(self._settings.name, excerpt(raw.text, 120))
        return response

    def _shown(self, raw: httpx2.Response) -> Shown:
        return Shown(self._response_in(raw), raw.headers)

    def _answer(self, request: LlmRequest, response: dict[str, Any], headers: dict[str, str]) -> LlmAnswer:
        self._refuse_failed(response)
        usage = object_in(response, "usage")
        return LlmAnswer(
            text="".join(text_in(part, "text") for part in _parts(response) if part.get("type") == "output_text"),
            model=text_in(response, "model") or request.model,
            finish_reason=_responses_finish(response),
            input_tokens=count_in(usage, "input_tokens"),
            output_tokens=count_in(usage, "output_tokens"),
            cached_input_tokens=count_in(object_in(usage, "input_tokens_details"), "cached_tokens"),
            billed=billed_in("openai", "responses", response),
            headers=headers,
            tier=tier_of(response.get("service_tier")),
        )

    def _refuse_failed(self, response: dict[str, Any]) -> None:
        """Raise for a response that failed with status 200: its ``error`` says why."""
        if response.get("status") in FAILED:
            error = object_in(response, "error")
            raise answered_with_error("openai", self._settings.name, 500, {}, {"error": error})

    async def _chat(self, request: LlmRequest, timeout_seconds: float) -> LlmAnswer:
        limit_field = "max_completion_tokens" if self._settings.name == "openai" else "max_tokens"
        takes_schema = profile_of("openai", request.model).takes_schema
        messages = [
            {"role": "system", "content": system_prompt_for(request, takes_schema=takes_schema)},
            {"role": "user", "content": request.user_message},
        ]
        body: dict[str, Any] = {"messages": messages} | self._body(request, limit_field)
        if request.output_schema is not None and takes_schema:
            body["response_format"] = chat_format(request.output_schema)
        options = request.model_options
        wanted = {"reasoning_effort": options.reasoning_effort, "stop": options.stop, "seed": options.seed}
        body |= {name: value for name, value in wanted.items() if value is not None}
        body = with_provider_options(body, options)
        raw = await self._post("/chat/completions", body, request, timeout_seconds)
        completion = self._object_in(raw)
        choices = objects_in(completion, "choices")
        if not choices:
            raise not_the_api(self._settings.name, excerpt(raw.text, 120))
        message, usage = object_in(choices[0], "message"), object_in(completion, "usage")
        finish = _FINISH.get(text_in(choices[0], "finish_reason"), "other")
        return LlmAnswer(
            text=text_in(message, "content"),
            model=text_in(completion, "model") or request.model,
            finish_reason="refusal" if text_in(message, "refusal") else finish,
            input_tokens=count_in(usage, "prompt_tokens"),
            output_tokens=count_in(usage, "completion_tokens"),
            cached_input_tokens=count_in(object_in(usage, "prompt_tokens_details"), "cached_tokens"),
            billed=billed_in("openai", "chat", completion),
            headers=dict(raw.headers),
            tier=tier_of(completion.get("service_tier")),
        )


def _parts(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The content parts of the messages in a response's output."""
    messages = [item for item in objects_in(response, "output") if item.get("type") == "message"]
    return [part for message in messages for part in objects_in(message, "content")]


def _responses_finish(response: dict[str, Any]) -> FinishReason:
    reason = object_in(response, "incomplete_details").get("reason")
    if reason == "max_output_tokens":
        return "length"
    if reason == "content_filter" or any(part.get("type") == "refusal" for part in _parts(response)):
        return "refusal"
    return "stop" if response.get("status") in (None, "completed") else "other"
