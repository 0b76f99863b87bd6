"""Acme's API, over HTTP without an SDK."""

import httpx2

from fleet.provider_settings import ProviderSettings
from fleet.providers.acme.spec import SPEC
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.connections import client_options
from fleet.providers.error_mapping import answered_with_error, not_answered, not_the_api
from fleet.providers.response_bodies import count_in, object_answered, text_in


class AcmeProvider:
    """Acme, with one key."""

    def __init__(self, settings: ProviderSettings, api_key: str) -> None:
        self._settings = settings
        self._client = httpx2.AsyncClient(
            base_url=settings.base_url or SPEC.official_url, headers={"acme-key": api_key}, **client_options()
        )

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle | None = None
    ) -> LlmAnswer:
        """Make one call; see :class:`fleet.providers.base.Provider`."""
        name = self._settings.name
        asked = {
            "model": request.model,
            "system": request.system_prompt,
            "prompt": request.user_message,
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
        }
        headers = {"idempotency-key": request.idempotency_key}
        try:
            response = await self._client.post("/write", json=asked, headers=headers, timeout=timeout_seconds)
        except httpx2.TransportError as error:
            raise not_answered(name, error) from error
        if not response.is_success:
            raise answered_with_error("acme", name, response.status_code, response.headers, response.text)
        body = object_answered(response.headers.get("content-type", ""), response.content)
        if not body:
            raise not_the_api(name, response.text)
        return LlmAnswer(
            text=text_in(body, "text"),
            model=text_in(body, "model"),
            finish_reason=body["end"],
            input_tokens=count_in(body, "tokens_in"),
            output_tokens=count_in(body, "tokens_out"),
            headers=dict(response.headers),
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()
