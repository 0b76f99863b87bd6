"""Anthropic's Messages API.

Every call is streamed: the SDK refuses a plain call whose ``max_tokens`` could take longer than ten minutes, and
on all current models "unlimited" could.
"""

from typing import Any

import anthropic
import httpx2
from anthropic.types import Message

from fleet.provider_settings import ProviderSettings
from fleet.providers.anthropic.spec import SPEC
from fleet.providers.base import FinishReason, LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.connections import NO_KEY, client_options
from fleet.providers.error_mapping import MISREAD, answered_with_error, misread, not_answered
from fleet.providers.model_profiles import profile_of, sampling_of, system_prompt_for
from fleet.providers.options import with_provider_options
from fleet.providers.prices import billed_in, tier_of
from fleet.providers.response_bodies import count_in
from fleet.providers.spec import ModelProfile

_SAFE_MAX_TOKENS = 4_096
_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicProvider:
    """A client of Anthropic with one key."""

    def __init__(self, settings: ProviderSettings, api_key: str) -> None:
        self._settings = settings
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key or NO_KEY,
            base_url=settings.base_url or SPEC.official_url,
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(**client_options(with_key=settings.needs_key)),
        )
        _ = self._client.messages  # loads now what the SDK would load at the first call

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle | None = None
    ) -> LlmAnswer:
        """Make one call; see :class:`fleet.providers.base.Provider`."""
        name = self._settings.name
        try:
            return await self._stream(request, timeout_seconds)
        except anthropic.APIStatusError as error:
            # An error event in the middle of a stream has the stream's status, 200.
            status = error.status_code if error.status_code >= 300 else 500
            raise answered_with_error("anthropic", name, status, error.response.headers, error.body) from error
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            # An error in the middle of a stream is not wrapped by the SDK.
            raise not_answered(name, error) from error
        except (anthropic.APIResponseValidationError, *MISREAD) as error:
            # The SDK reads the events of a stream without a look at their types or their order.
            raise misread(name, error) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _stream(self, request: LlmRequest, timeout_seconds: float) -> LlmAnswer:
        profile = profile_of("anthropic", request.model)
        most = profile.max_output_tokens or _SAFE_MAX_TOKENS
        async with self._client.messages.stream(
            model=request.model,
            max_tokens=request.max_tokens or most,
            system=system_prompt_for(request, takes_schema=profile.takes_schema),
            messages=[{"role": "user", "content": request.user_message}],
            extra_headers={"Idempotency-Key": request.idempotency_key},
            extra_body=_options(request, profile),
            timeout=timeout_seconds,
        ) as stream:
            message = await stream.get_final_message()
            headers = dict(stream.response.headers)
        return _answer(message, headers)


def _options(request: LlmRequest, profile: ModelProfile) -> dict[str, Any]:
    """The fields that depend on the model and on the assistant's options, without those that have no value."""
    thinking = _thinking(request, profile)
    temperature, top_p = sampling_of(profile, request.temperature, request.top_p)
    if thinking is not None and thinking["type"] != "disabled":
        temperature = top_p = None  # a model that thinks takes neither
    wanted = {
        "temperature": temperature,
        "top_p": top_p,
        "thinking": thinking,
        "stop_sequences": request.model_options.stop,
        "output_config": _output_config(request, profile) or None,
    }
    return with_provider_options(
        {name: value for name, value in wanted.items() if value is not None}, request.options
    )


def _thinking(request: LlmRequest, profile: ModelProfile) -> dict[str, Any] | None:
    """With a budget where there is one; an effort otherwise needs thinking that the model bounds itself."""
    options = request.model_options
    if options.thinking_budget == 0:
        return {"type": "disabled"}
    if options.thinking_budget is not None:
        return {"type": "enabled", "budget_tokens": options.thinking_budget}
    if options.reasoning_effort is not None and profile.adaptive_thinking:
        return {"type": "adaptive"}
    return None


def _output_config(request: LlmRequest, profile: ModelProfile) -> dict[str, Any]:
    """The effort, and the schema with the constraints that the API does not take as descriptions."""
    effort = request.model_options.reasoning_effort
    config: dict[str, Any] = {} if effort is None else {"effort": effort}
    if request.output_schema is not None and profile.takes_schema:
        schema = anthropic.transform_schema(request.output_schema)
        config["format"] = {"type": "json_schema", "schema": schema}
    return config


def _answer(message: Message, headers: dict[str, str]) -> LlmAnswer:
    # The SDK does not validate: an endpoint that imitates Anthropic's API may send no usage.
    usage = message.usage.to_dict() if message.usage is not None else {}
    cached = count_in(usage, "cache_read_input_tokens")
    written = count_in(usage, "cache_creation_input_tokens")
    return LlmAnswer(
        text="".join(block.text for block in message.content if block.type == "text"),
        model=message.model,
        finish_reason=_FINISH.get(message.stop_reason or "", "other"),
        input_tokens=count_in(usage, "input_tokens") + cached + written,
        output_tokens=count_in(usage, "output_tokens"),
        cached_input_tokens=cached,
        billed=billed_in("anthropic", "default", {"usage": usage, "model": message.model}),
        headers=headers,
        tier=tier_of(usage.get("service_tier"), usage.get("speed")),
    )
