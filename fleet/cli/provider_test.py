"""``fleet provider test``: one call to a provider, from this process and beside every queue and limit."""

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import httpx2

from fleet.cli.fleet_record import FleetRecord
from fleet.cli.named_provider import provider_named
from fleet.cli.provider_lines import called_at
from fleet.config import Settings
from fleet.devstack.backend.keys import key_variables, real_key
from fleet.errors import OperationError, ProviderError
from fleet.execution.backend_client import Backend
from fleet.execution.provider_keys import provider_key
from fleet.failures import FailureKind
from fleet.near_names import nearest
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest
from fleet.providers.connections import client_options
from fleet.providers.error_mapping import with_address
from fleet.providers.options import without_thinking
from fleet.providers.prices import cost_of
from fleet.providers.registry import provider_address, provider_factory, spec_of
from fleet.redaction import protect
from fleet.terminal import harmless

_SECONDS = 120.0
_LIST_SECONDS = 15.0
_MAX_TOKENS = 64
_SHOWN_CHARACTERS = 200
_LIMIT_WORDS = ("ratelimit", "retry-after")


@dataclass(frozen=True)
class TestedCall:
    """One call and its answer. ``why_model`` says where the model's name is from, ``limits`` are the headers that
    tell limits; ``cost_usd`` None means that no price is known."""

    provider: str
    address: str
    model: str
    why_model: str
    answer: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    seconds: float
    cost_usd: float | None
    simulated: bool
    limits: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people, one fact a line."""
        variable = f"FLEET_PROVIDERS__{self.provider.upper()}__"
        cut = (
            f" (cut off at {_MAX_TOKENS} tokens, as this test asks for)" if self.finish_reason == "length" else ""
        )
        text = (harmless(" ".join(self.answer.split()))[:_SHOWN_CHARACTERS] or "no text") + cut
        cost = f"unknown; {variable}PRICES sets it" if self.cost_usd is None else f"${self.cost_usd:.6f}"
        shown = [
            ("provider", f"{self.provider} at {self.address}" + (" (the simulator)" if self.simulated else "")),
            ("model", f"{harmless(self.model)} ({self.why_model})"),
            ("answer", text),
            ("tokens", f"{self.input_tokens} in, {self.output_tokens} out"),
            ("time", f"{self.seconds:.2f} s"),
            ("cost", f"{cost}, nothing is paid" if self.simulated else cost),
        ]
        limits = [(name, harmless(value)) for name, value in self.limits.items()]
        none = [("limits", f"none in the headers; {variable}RPM and …TPM set them if there are any")]
        return [f"{name:9} {value}" for name, value in shown + (limits or none)]


async def test_provider(
    settings: Settings, record: FleetRecord | None, name: str, model: str | None, *, with_backend: bool
) -> TestedCall:
    """Make one small call to the provider of that name, at the address that the fleet uses.

    ``with_backend``: the settings name a backend, which is asked for the key; otherwise it is that of the
    environment.

    Raises:
        OperationError: the provider is not configured, has no key, or offers no model.
        ProviderError: the call failed.
    """
    provider = called_at(record, provider_named(settings, name))
    key = await _key(settings, provider, with_backend=with_backend)
    chosen, why = (model, await _how_asked(provider, key, model)) if model else await _a_model(provider, key)
    client = provider_factory(provider)(key)
    began = time.monotonic()
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await client.complete(_request(provider, chosen), timeout_seconds=_SECONDS)
    except TimeoutError:
        raise ProviderError(FailureKind.TIMED_OUT, name, f"no answer within {_SECONDS:.0f} s") from None
    except ProviderError as error:
        raise with_address(error, provider, chosen) from error.__cause__
    finally:
        await client.close()
    return _told(provider, chosen, why, answer, time.monotonic() - began)


def _request(provider: ProviderSettings, model: str) -> LlmRequest:
    return LlmRequest(
        model=model,
        system_prompt="This is a test of the connection.",
        user_message="Answer with the one word OK.",
        temperature=0.7,
        top_p=None,
        max_tokens=_MAX_TOKENS,
        idempotency_key=f"fleet-test-{uuid.uuid4().hex}",
        options=without_thinking(provider, model),
    )


def _told(provider: ProviderSettings, model: str, why: str, answer: LlmAnswer, seconds: float) -> TestedCall:
    cost = cost_of(provider, model, answer)
    return TestedCall(
        provider=provider.name,
        address=provider_address(provider),
        model=model if answer.model == model else f"{model}, answered by {answer.model}",
        why_model=why,
        answer=answer.text,
        finish_reason=answer.finish_reason,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        seconds=round(seconds, 3),
        cost_usd=cost.usd,
        simulated=cost.simulated,
        limits={
            name: value for name, value in answer.headers.items() if any(word in name for word in _LIMIT_WORDS)
        },
    )


async def _key(settings: Settings, provider: ProviderSettings, *, with_backend: bool) -> str:
    if not provider.needs_key:
        return ""
    if with_backend or provider.api_key_file is not None:
        async with Backend.from_settings(settings) as backend:
            return await provider_key(backend, provider)
    if key := real_key(provider.name):
        protect(key)
        return key
    raise OperationError(
        f"there is no API key for {provider.name}. Remedy: set {key_variables(provider.name)[0]}, or "
        f"FLEET_PROVIDERS__{provider.name.upper()}__NEEDS_KEY=false if it wants none"
    )


async def _a_model(provider: ProviderSettings, key: str) -> tuple[str, str]:
    """A model to ask, and why this one: a cheap one of the vendor's; of another server, the first that it
    lists."""
    if provider.kind != "openai" or provider.name == "openai":
        return spec_of(provider.kind).example_model, "a cheap one; --model takes another"
    listed = await _models(provider, key)
    if not listed:
        raise OperationError(
            f"{provider_address(provider)} lists no models. Remedy: name one: `fleet provider test "
            f"{provider.name} --model MODEL`"
        )
    return listed[0], f"the first of {len(listed)} that it lists; --model takes another"


async def _how_asked(provider: ProviderSettings, key: str, model: str) -> str:
    """Where the name of a model that was asked for is from: of a server of the user's own, whether it lists it;
    some servers answer every name."""
    if provider.kind != "openai" or provider.name == "openai":
        return "as asked for"
    listed: list[str] = []
    with suppress(OperationError):  # the call itself says what is wrong
        listed = await _models(provider, key)
    if not listed or model in listed:
        return "as asked for"
    near = nearest(model, listed, 0.0)
    return f"as asked for, but the server lists no such name; the nearest of {len(listed)} is {near}"


async def _models(provider: ProviderSettings, key: str) -> list[str]:
    """The models that a server with OpenAI's API lists; empty if it answers with something else."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx2.AsyncClient(**client_options() | {"timeout": _LIST_SECONDS}) as client:
            answer = await client.get(f"{provider_address(provider)}/models", headers=headers)
        entries = answer.json()["data"]
        return [str(entry["id"]) for entry in entries]
    except httpx2.HTTPError as error:
        raise OperationError(
            f"{provider.name} at {provider_address(provider)} cannot be reached "
            f"({type(error).__name__}: {error}). Remedy: start the server, or correct "
            f"FLEET_PROVIDERS__{provider.name.upper()}__BASE_URL"
        ) from None
    except (ValueError, LookupError, TypeError):
        return []
