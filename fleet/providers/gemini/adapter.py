"""Google's Gemini through google-genai, the SDK that Google maintains."""

from google import genai
from google.genai import errors, types

from fleet.model_options import ModelOptions
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.connections import NO_KEY, client_options
from fleet.providers.error_mapping import MISREAD, answered_with_error, misread, not_answered, not_the_api
from fleet.providers.gemini.answers import FINISH, TIER_HEADER
from fleet.providers.gemini.interactions import Interactions
from fleet.providers.gemini.spec import SPEC
from fleet.providers.model_profiles import profile_of, sampling_of
from fleet.providers.prices import billed_in, tier_of
from fleet.providers.response_bodies import count_in

API_VERSION = "v1beta"


class GeminiProvider:
    """A client of Gemini with one key."""

    def __init__(self, settings: ProviderSettings, api_key: str) -> None:
        self._settings = settings
        options = client_options(with_key=settings.needs_key)
        self._client = genai.Client(
            api_key=api_key or NO_KEY,
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=settings.base_url or SPEC.official_url,
                api_version=API_VERSION,
                retry_options=types.HttpRetryOptions(attempts=1),  # unset: five attempts at interactions
                client_args=options,
                async_client_args=options,
            ),
        )
        # Loading what interactions need takes a second of CPU time, so it is done now and not during the first
        # call.
        self._interactions = Interactions(settings, self._client) if settings.background else None
        types.GenerateContentResponse.model_rebuild()  # built now, since the SDK would build it at the first call

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle | None = None
    ) -> LlmAnswer:
        """Make one call; see :class:`fleet.providers.base.Provider`."""
        if self._interactions is not None and resume_handle is not None:
            return await self._interactions.complete(request, timeout_seconds, resume_handle)
        name = self._settings.name
        try:
            response = await self._client.aio.models.generate_content(
                model=request.model,
                contents=request.user_message,
                config=self._config(request, timeout_seconds),
            )
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None) or {}
            raise answered_with_error("gemini", name, error.code, headers, error.details) from error
        except (errors.UnknownApiResponseError, *MISREAD) as error:
            raise misread(name, error) from error
        except Exception as error:
            # google-genai does not wrap the transport's exceptions.
            raise not_answered(name, error) from error
        return self._answer(request, response)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aio.aclose()

    def _config(self, request: LlmRequest, timeout_seconds: float) -> types.GenerateContentConfig:
        profile, options = profile_of("gemini", request.model), request.model_options
        temperature, top_p = sampling_of(profile, request.temperature, request.top_p)
        return types.GenerateContentConfig(
            system_instruction=request.system_prompt,
            temperature=temperature,
            top_p=top_p,
            max_output_tokens=request.max_tokens or profile.max_output_tokens,
            response_mime_type=None if request.output_schema is None else "application/json",
            response_json_schema=request.output_schema,
            stop_sequences=options.stop,
            seed=options.seed,
            thinking_config=_thinking(options),
            http_options=types.HttpOptions(
                timeout=int(timeout_seconds * 1000),
                headers={"Idempotency-Key": request.idempotency_key},
                extra_body=options.provider_options,
            ),
        )

    def _answer(self, request: LlmRequest, response: types.GenerateContentResponse) -> LlmAnswer:
        name, usage = self._settings.name, response.usage_metadata
        counted = usage.model_dump(by_alias=True, exclude_none=True, mode="json") if usage else {}
        blocked = response.prompt_feedback.block_reason if response.prompt_feedback else None
        if not response.candidates and not blocked:
            raise not_the_api(name, "no candidates")
        candidate = response.candidates[0] if response.candidates else None
        reason = candidate.finish_reason.name if candidate and candidate.finish_reason else "STOP"
        parts = (candidate.content.parts or []) if candidate and candidate.content else []
        told = (response.sdk_http_response.headers or {}) if response.sdk_http_response else {}
        headers = {header.lower(): value for header, value in told.items()}
        return LlmAnswer(
            text="".join(part.text for part in parts if part.text and not part.thought),
            model=response.model_version or request.model,
            finish_reason="refusal" if blocked else FINISH.get(reason, "other"),
            input_tokens=count_in(counted, "promptTokenCount"),
            # Thinking is charged as output and counted separately.
            output_tokens=count_in(counted, "candidatesTokenCount") + count_in(counted, "thoughtsTokenCount"),
            cached_input_tokens=count_in(counted, "cachedContentTokenCount"),
            billed=billed_in("gemini", "default", {"usageMetadata": counted}),
            headers=headers,
            tier=tier_of(headers.get(TIER_HEADER)),
        )


def _thinking(options: ModelOptions) -> types.ThinkingConfig | None:
    if options.thinking_budget is None and options.reasoning_effort is None:
        return None
    effort = options.reasoning_effort
    level = None if effort is None else types.ThinkingLevel(effort.upper())
    return types.ThinkingConfig(thinking_budget=options.thinking_budget, thinking_level=level)
