"""Google's Gemini through google-generativeai, out of support since 2025, for those who still need it.

Selected by ``FLEET_PROVIDERS__GEMINI__SDK=google-generativeai``; the package is in the extra ``gemini-legacy``.
The adapter uses REST, since the SDK's gRPC transport does not accept a plain-http endpoint. REST is not
asynchronous in this SDK, so a call runs in a thread of its own; when a deadline passes, the thread continues until
the call's own timeout.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import google.generativeai as legacy
import requests
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.generativeai.client import get_default_generative_client
from google.protobuf.json_format import ParseError

from fleet.errors import ProviderError
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.error_mapping import answered_with_error, not_answered, not_the_api
from fleet.providers.gemini.answers import FINISH, TIER_HEADER
from fleet.providers.gemini.spec import SPEC
from fleet.providers.model_profiles import profile_of, sampling_of, system_prompt_for
from fleet.providers.prices import tier_of


class LegacyGeminiProvider:
    """A client of Gemini with one key. The SDK keeps the key globally, so a process uses one key at a time."""

    def __init__(self, settings: ProviderSettings, api_key: str) -> None:
        self._settings = settings
        # One thread per call that may be in flight: the default executor has fewer threads, and others use it too.
        self._threads = ThreadPoolExecutor(settings.concurrency, "gemini")
        endpoint = settings.base_url or SPEC.official_url
        legacy.configure(api_key=api_key, transport="rest", client_options={"api_endpoint": endpoint})
        # A followed redirect would send the key to another host.
        session = get_default_generative_client().transport._session
        session.max_redirects = 0
        # The SDK hides the headers; each call runs in a thread of its own, in which the hook receives its answer.
        self._heard = threading.local()
        session.hooks["response"].append(self._hear)

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle | None = None
    ) -> LlmAnswer:
        """Make one call; see :class:`fleet.providers.base.Provider`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._complete, request, timeout_seconds)

    async def close(self) -> None:
        """Stop the threads; the SDK keeps one session for the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _complete(self, request: LlmRequest, timeout_seconds: float) -> LlmAnswer:
        name = self._settings.name
        # This SDK knows no JSON Schema.
        prompt = system_prompt_for(request, takes_schema=False)
        model = legacy.GenerativeModel(request.model, system_instruction=prompt)
        try:
            response = model.generate_content(
                request.user_message,
                generation_config=self._generation_config(request),
                request_options={
                    "retry": None,
                    "timeout": timeout_seconds,
                    "metadata": [("Idempotency-Key", request.idempotency_key)],
                },
            )
        except RetryError as error:
            raise not_answered(name, error) from error
        except GoogleAPICallError as error:
            raise self._answered_with_error(error) from error
        except requests.TooManyRedirects as error:
            raise not_the_api(name, "a redirect") from error
        except (requests.JSONDecodeError, ParseError) as error:
            raise not_the_api(name, repr(error)) from error
        except requests.RequestException as error:
            raise not_answered(name, error) from error
        except ValueError as error:
            raise not_the_api(name, repr(error)) from error
        return self._answer(request, response)

    def _hear(self, response: requests.Response, **options: object) -> None:
        self._heard.headers = {name.lower(): value for name, value in response.headers.items()}

    def _generation_config(self, request: LlmRequest) -> dict[str, Any]:
        profile = profile_of("gemini", request.model)
        temperature, top_p = sampling_of(profile, request.temperature, request.top_p)
        wanted = {
            "temperature": temperature,
            "top_p": top_p,
            "max_output_tokens": request.max_tokens or profile.max_output_tokens,
            "stop_sequences": request.model_options.stop,
            "response_mime_type": None if request.output_schema is None else "application/json",
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def _answered_with_error(self, error: GoogleAPICallError) -> ProviderError:
        response = error.response
        headers = dict(response.headers) if response is not None else {}
        body = response.text if response is not None else error.message
        return answered_with_error("gemini", self._settings.name, int(error.code or 500), headers, body)

    def _answer(self, request: LlmRequest, response: Any) -> LlmAnswer:
        blocked = bool(response.prompt_feedback.block_reason)
        if not response.candidates and not blocked:
            raise not_the_api(self._settings.name, "no candidates")
        candidates = list(response.candidates)
        parts = candidates[0].content.parts if candidates else []
        ended = candidates[0].finish_reason.name if candidates else "PROHIBITED_CONTENT"
        usage, headers = response.usage_metadata, getattr(self._heard, "headers", {})
        return LlmAnswer(
            text="".join(part.text for part in parts),
            model=request.model,
            finish_reason=FINISH.get(ended, "other"),
            input_tokens=usage.prompt_token_count,
            # This SDK does not know thinking, which is charged as output; it is in the total.
            output_tokens=max(usage.candidates_token_count, usage.total_token_count - usage.prompt_token_count),
            cached_input_tokens=usage.cached_content_token_count,
            headers=headers,
            tier=tier_of(headers.get(TIER_HEADER)),
        )
