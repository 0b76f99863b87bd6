"""OpenAI and every endpoint that speaks its API (vLLM, Ollama, llama.cpp, Groq, Mistral …).

OpenAI itself is asked through the Responses API, other endpoints through chat completions, which all of
them have; the provider's ``api`` setting overrides either.
"""

import asyncio
from typing import Any

import httpx2
import openai
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from fleet.config import ProviderSettings
from fleet.providers.base import CONNECTIONS, FinishReason, LlmAnswer, LlmRequest, Ticket
from fleet.providers.profiles import profile_of, sampling_of
from fleet.providers.translation import answered_with_error, not_answered, not_the_api

OFFICIAL_URL = "https://api.openai.com/v1"
_FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.5, 5.0
_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "refusal"}


class OpenAIProvider:
    """One OpenAI-compatible endpoint, with one key."""

    def __init__(self, settings: ProviderSettings, api_key: str) -> None:
        self._settings = settings
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "not-needed",
            base_url=settings.base_url or OFFICIAL_URL,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, limits=httpx2.Limits(**CONNECTIONS)
            ),
        )
        self._prepare()

    def _prepare(self) -> None:
        """Have the SDK load and build now what it would at its first call."""
        if self._settings.openai_api == "responses":
            _ = self._client.responses.with_raw_response
            Response.model_rebuild()
        else:
            _ = self._client.chat.completions.with_raw_response
            ChatCompletion.model_rebuild()

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, ticket: Ticket | None = None
    ) -> LlmAnswer:
        """Make one call; see :class:`fleet.providers.base.Provider`."""
        try:
            if self._settings.openai_api != "responses":
                return await self._chat(request, timeout_seconds)
            if self._settings.background and ticket is not None:
                return await self._respond_in_background(request, timeout_seconds, ticket)
            return await self._respond(request, timeout_seconds)
        except openai.APIStatusError as error:
            raise answered_with_error(
                "openai",
                self._settings.name,
                error.status_code,
                error.response.headers,
                error.body or error.response.text,
            ) from error
        except openai.APIConnectionError as error:
            raise not_answered(self._settings.name, error) from error
        except (openai.APIResponseValidationError, ValueError) as error:
            raise not_the_api(self._settings.name, repr(error)) from error

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.close()

    def _options(self, request: LlmRequest, timeout_seconds: float, limit_field: str) -> dict[str, Any]:
        """The fields that both APIs share; what is not wanted is left out."""
        profile = profile_of("openai", request.model)
        temperature, top_p = sampling_of(profile, request.temperature, request.top_p)
        limit = request.max_tokens or profile.max_output_tokens
        wanted = {"temperature": temperature, "top_p": top_p, limit_field: limit}
        return {
            "model": request.model,
            "extra_headers": {"Idempotency-Key": request.idempotency_key},
            "timeout": timeout_seconds,
            **{name: value for name, value in wanted.items() if value is not None},
        }

    async def _respond(self, request: LlmRequest, timeout_seconds: float) -> LlmAnswer:
        raw = await self._client.responses.with_raw_response.create(
            instructions=request.system_prompt,
            input=request.user_message,
            **self._options(request, timeout_seconds, "max_output_tokens"),
        )
        return self._answer(request, self._checked(raw.parse(), raw.text), dict(raw.headers))

    async def _respond_in_background(
        self, request: LlmRequest, timeout_seconds: float, ticket: Ticket
    ) -> LlmAnswer:
        """Begin a response at OpenAI, or pick one up by its id, and ask for it until it is done."""
        api = self._client.responses.with_raw_response
        if ticket.response_id is None:
            raw = await api.create(
                instructions=request.system_prompt,
                input=request.user_message,
                background=True,
                store=True,
                **self._options(request, timeout_seconds, "max_output_tokens"),
            )
            response = self._checked(raw.parse(), raw.text)
            await ticket.started(response.id)
        else:
            raw = await api.retrieve(ticket.response_id, timeout=timeout_seconds)
            response = self._checked(raw.parse(), raw.text)
        wait = _FIRST_LOOK_SECONDS
        while response.status in ("queued", "in_progress"):
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_LOOK_SECONDS)
            raw = await api.retrieve(response.id, timeout=timeout_seconds)
            response = self._checked(raw.parse(), raw.text)
        return self._answer(request, response, dict(raw.headers))

    def _checked(self, response: object, body: str) -> Response:
        """The response, if it is one."""
        if not isinstance(response, Response) or not response.id or response.output is None:
            raise not_the_api(self._settings.name, body[:120])
        return response

    def _answer(self, request: LlmRequest, response: Response, headers: dict[str, str]) -> LlmAnswer:
        self._refuse_failed(response)
        usage = response.usage
        return LlmAnswer(
            text=response.output_text,
            model=response.model or request.model,
            finish_reason=_responses_finish(response),
            input_tokens=usage.input_tokens if usage else 0,
            output_tokens=usage.output_tokens if usage else 0,
            cached_input_tokens=usage.input_tokens_details.cached_tokens if usage else 0,
            headers=headers,
        )

    def _refuse_failed(self, response: Response) -> None:
        """A response can fail with status 200: its ``error`` then says why."""
        if response.status in ("failed", "cancelled"):
            error = {"code": response.error.code, "message": response.error.message} if response.error else {}
            raise answered_with_error("openai", self._settings.name, 500, {}, {"error": error})

    async def _chat(self, request: LlmRequest, timeout_seconds: float) -> LlmAnswer:
        limit_field = "max_completion_tokens" if self._settings.name == "openai" else "max_tokens"
        raw = await self._client.chat.completions.with_raw_response.create(
            messages=[
                {"role": "system", "content": request.system_prompt},
                {"role": "user", "content": request.user_message},
            ],
            **self._options(request, timeout_seconds, limit_field),
        )
        completion = raw.parse()
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise not_the_api(self._settings.name, str(raw.text)[:120])
        choice, usage = completion.choices[0], completion.usage
        cached = usage.prompt_tokens_details if usage else None
        refused = bool(choice.message.refusal)
        return LlmAnswer(
            text=choice.message.content or "",
            model=completion.model or request.model,
            finish_reason="refusal" if refused else _FINISH.get(choice.finish_reason, "other"),
            input_tokens=usage.prompt_tokens if usage else 0,
            output_tokens=usage.completion_tokens if usage else 0,
            cached_input_tokens=(cached.cached_tokens or 0) if cached else 0,
            headers=dict(raw.headers),
        )


def _responses_finish(response: Response) -> FinishReason:
    reason = response.incomplete_details.reason if response.incomplete_details else None
    if reason == "max_output_tokens":
        return "length"
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    if reason == "content_filter" or any(part.type == "refusal" for part in parts):
        return "refusal"
    return "stop" if response.status in (None, "completed") else "other"
