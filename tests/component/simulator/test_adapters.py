"""Our adapters and the unmodified SDKs below them, against the simulator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from google.genai import types

from fleet.config import load_settings
from fleet.devstack.simulator.testing import RunningSimulator
from fleet.errors import ProviderError
from fleet.failures import Billed, FailureKind
from fleet.pipeline.structured_outputs import answer_problem
from fleet.process.metrics import Metrics
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, Provider, ResumeHandle
from fleet.providers.gemini.adapter import GeminiProvider
from fleet.providers.registry import provider_factory
from fleet.providers.session import ProviderSession

#: Model, provider and further settings of each case.
PROVIDERS: dict[str, tuple[str, str, dict[str, object]]] = {
    "openai": ("gpt-4o", "openai", {}),
    "openai-background": ("gpt-4o", "openai", {"background": True}),
    "openai-chat": ("gpt-4o", "openai", {"api": "chat"}),
    "anthropic": ("claude-sonnet-4-6", "anthropic", {}),
    "gemini": ("gemini-2.5-flash", "gemini", {}),
    "gemini-background": ("gemini-2.5-flash", "gemini", {"background": True}),
    "groq": ("llama-3.3-70b", "groq", {"kind": "openai"}),
}


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.providers.background_calls.FIRST_LOOK_SECONDS", 0.02)


def request(model: str, **changes: object) -> LlmRequest:
    values: dict[str, object] = {
        "model": model,
        "system_prompt": "Jsi zkušený redaktor. Piš česky, stručně a věcně.",
        "user_message": "Téma: kávovary <script>alert(1)</script>",
        "temperature": 0.7,
        "top_p": None,
        "max_tokens": 4000,
        "idempotency_key": "fleet-1",
    }
    return LlmRequest(**(values | changes))  # type: ignore[arg-type]


def settings_for(case: str, simulator: RunningSimulator) -> ProviderSettings:
    _, name, further = PROVIDERS[case]
    section = {"base_url": simulator.provider_url(name)} | further
    return load_settings(api_base_url="http://localhost:1", providers={name: section}).provider(name)


class Resumed:
    """A provider each of whose calls has a ticket, without which none goes on in the background."""

    def __init__(self, inner: Provider) -> None:
        self._inner = inner
        self.close = inner.close

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle | None = None
    ) -> LlmAnswer:
        async def started(response_id: str) -> None:
            pass

        resume_handle = resume_handle or ResumeHandle(None, started)
        return await self._inner.complete(request, timeout_seconds=timeout_seconds, resume_handle=resume_handle)


@asynccontextmanager
async def provider(case: str, simulator: RunningSimulator) -> AsyncIterator[Provider]:
    client = Resumed(provider_factory(settings_for(case, simulator))("sim-key-12345678"))
    try:
        yield client
    finally:
        await client.close()


async def failing(case: str, simulator: RunningSimulator, **changes: object) -> ProviderError:
    async with provider(case, simulator) as client:
        with pytest.raises(ProviderError) as caught:
            await client.complete(request(PROVIDERS[case][0], **changes), timeout_seconds=1.0)
    return caught.value


@pytest.mark.parametrize("case", sorted(PROVIDERS))
async def test_a_call_is_answered_with_text_usage_and_the_key_of_all_attempts(
    case: str, simulator: RunningSimulator
) -> None:
    async with provider(case, simulator) as client:
        answer = await client.complete(request(PROVIDERS[case][0]), timeout_seconds=10)
    assert answer.text.startswith("[SIMULATOR]") and "kávovary <script>" in answer.text
    assert answer.finish_reason == "stop"
    assert answer.input_tokens > 10 and 50 < answer.output_tokens <= 4000
    (call,) = simulator.ledger()
    assert call["provider"] == PROVIDERS[case][1]
    assert (call["status"], call["outcome"], call["idempotency_key"]) == (200, "answered", "fleet-1")
    assert (call["input_tokens"], call["output_tokens"]) == (answer.input_tokens, answer.output_tokens)


@pytest.mark.parametrize("case", sorted(PROVIDERS))
async def test_max_tokens_ends_the_answer_and_says_so(case: str, simulator: RunningSimulator) -> None:
    async with provider(case, simulator) as client:
        answer = await client.complete(request(PROVIDERS[case][0], max_tokens=20), timeout_seconds=10)
    assert (answer.finish_reason, answer.output_tokens) == ("length", 20)
    assert answer.text


@pytest.mark.parametrize("case", sorted(PROVIDERS))
async def test_unlimited_max_tokens_are_accepted_by_every_provider(case: str, simulator: RunningSimulator) -> None:
    async with provider(case, simulator) as client:
        answer = await client.complete(request(PROVIDERS[case][0], max_tokens=None), timeout_seconds=10)
    assert answer.finish_reason == "stop"


QUIRKY = [
    ("openai", "gpt-5", {"top_p": 0.9}),
    ("openai-chat", "o3-mini", {}),
    ("openai", "gpt-4o", {"top_p": 0.9}),
    ("anthropic", "claude-opus-4-1-20250805", {"top_p": 0.9}),
    ("anthropic", "claude-3-5-haiku-20241022", {"top_p": 0.9}),
    ("anthropic", "claude-3-haiku-20240307", {"max_tokens": None}),
    ("anthropic", "claude-opus-4-20250514", {"max_tokens": None}),
    ("gemini", "gemini-1.5-pro", {"max_tokens": None, "top_p": 0.9}),
    ("gemini", "gemini-3-pro-preview", {"max_tokens": None}),
    ("gemini-background", "gemini-1.5-pro", {"max_tokens": None, "top_p": 0.9}),
    ("gemini", "models/gemini-2.5-flash", {}),
    ("gemini-background", "models/gemini-2.5-flash", {}),
]


@pytest.mark.parametrize(("case", "model", "changes"), QUIRKY)
async def test_a_models_quirks_are_respected(
    case: str, model: str, changes: dict[str, object], simulator: RunningSimulator
) -> None:
    async with provider(case, simulator) as client:
        answer = await client.complete(request(model, **changes), timeout_seconds=10)
    assert answer.text


@pytest.mark.parametrize("case", ["openai", "anthropic"])
async def test_what_remains_of_the_limit_is_in_the_answers_headers(case: str, simulator: RunningSimulator) -> None:
    simulator.put("limits", provider=case, rpm=60, burst_seconds=60)
    name = "x-ratelimit-remaining-requests" if case == "openai" else "anthropic-ratelimit-requests-remaining"
    async with provider(case, simulator) as client:
        remaining = [
            int((await client.complete(request(PROVIDERS[case][0]), timeout_seconds=10)).headers[name])
            for _ in range(3)
        ]
    assert remaining == [59, 58, 57]


#: Where they differ, by case, or by kind of provider.
BY_FAULT: dict[str, FailureKind | dict[str, FailureKind]] = {
    "429": FailureKind.RATE,
    "500": FailureKind.OUTAGE,
    "503": FailureKind.OUTAGE,
    "529": {"anthropic": FailureKind.OVERLOAD, "openai": FailureKind.OVERLOAD, "gemini": FailureKind.OVERLOAD},
    "401": FailureKind.KEY_REJECTED,
    "revoked_key": FailureKind.KEY_REJECTED,
    "403": FailureKind.FORBIDDEN,
    "404": FailureKind.NOT_FOUND,
    "400": FailureKind.BAD_REQUEST,
    "quota": {
        "openai": FailureKind.QUOTA_SPENT,
        "anthropic": FailureKind.QUOTA_SPENT,
        "gemini": FailureKind.QUOTA_SPENT,
        "gemini-background": FailureKind.RATE,
    },
    "day_quota": {
        "openai": FailureKind.QUOTA_SPENT,
        "anthropic": FailureKind.QUOTA_SPENT,
        "gemini": FailureKind.MODEL_QUOTA,
        "gemini-background": FailureKind.RATE,
    },
    "slow_down": {"openai": FailureKind.SLOW_DOWN, "anthropic": FailureKind.RATE, "gemini": FailureKind.OUTAGE},
    "hang": FailureKind.TIMED_OUT,
    "truncate": FailureKind.LOST_AFTER_SENDING,
    "reset": FailureKind.LOST_AFTER_SENDING,
    "html": FailureKind.UNUSABLE_BODY,
    "empty_json": FailureKind.UNUSABLE_BODY,
    "redirect": FailureKind.UNUSABLE_BODY,
}


@pytest.mark.parametrize("case", sorted(PROVIDERS))
@pytest.mark.parametrize("kind", sorted(BY_FAULT))
async def test_a_fault_has_its_meaning_and_is_sent_once(case: str, kind: str, simulator: RunningSimulator) -> None:
    settings = settings_for(case, simulator)
    simulator.fault(settings.name, kind, count=1)
    error = await failing(case, simulator)
    expected = BY_FAULT[kind]
    if not isinstance(expected, FailureKind):
        expected = expected.get(case, expected[settings.kind])
    assert error.failure_kind is expected
    assert len(simulator.ledger()) == 1
    assert simulator.stats()["elsewhere"] == []
    assert "sim-key-12345678" not in str(error)


@asynccontextmanager
async def session(case: str, simulator: RunningSimulator) -> AsyncIterator[ProviderSession]:
    settings = settings_for(case, simulator)

    async def key(fresh: bool) -> str:
        return "sim-key-12345678"

    factory = provider_factory(settings)
    made = ProviderSession(settings, lambda key: Resumed(factory(key)), key, Metrics())
    try:
        yield made
    finally:
        await made.close()


UNUSABLE = {"empty": FailureKind.UNUSABLE_EMPTY, "refusal": FailureKind.UNUSABLE_REFUSAL}
#: The Interactions API does not say why there is no text.
SILENT = {("gemini-background", "refusal"): FailureKind.UNUSABLE_EMPTY}


@pytest.mark.parametrize("case", sorted(PROVIDERS))
@pytest.mark.parametrize("kind", sorted(UNUSABLE))
async def test_an_answer_that_is_of_no_use_is_an_error_that_was_paid(
    case: str, kind: str, simulator: RunningSimulator
) -> None:
    simulator.fault(settings_for(case, simulator).name, kind, count=1)
    async with session(case, simulator) as asked:
        with pytest.raises(ProviderError) as caught:
            await asked.complete(request(PROVIDERS[case][0]), timeout_seconds=5)
    expected = SILENT.get((case, kind), UNUSABLE[kind])
    assert (caught.value.failure_kind, caught.value.traits.billed) == (expected, Billed.YES)
    assert len(simulator.ledger()) == 1


@pytest.mark.parametrize("case", sorted(PROVIDERS))
async def test_an_answer_that_was_cut_off_is_kept_and_says_so(case: str, simulator: RunningSimulator) -> None:
    simulator.fault(settings_for(case, simulator).name, "length", count=1)
    async with session(case, simulator) as asked:
        answer = await asked.complete(request(PROVIDERS[case][0]), timeout_seconds=5)
    assert answer.finish_reason == "length" and answer.text.startswith("[SIMULATOR]")


@pytest.mark.parametrize("case", sorted(PROVIDERS))
@pytest.mark.parametrize("form", ["seconds", "ms", "date"])
async def test_the_wait_that_a_429_asks_for_is_understood(
    case: str, form: str, simulator: RunningSimulator
) -> None:
    name = settings_for(case, simulator).name
    simulator.fault(name, "429", retry_after=7.0, form=form)
    error = await failing(case, simulator)
    # Dates are in whole seconds, that of the answer and that of the end of the wait.
    longest = 8.0 if form == "date" else 7.0
    assert error.wait_seconds is not None and 5.5 <= error.wait_seconds <= longest


@pytest.mark.parametrize("case", sorted(PROVIDERS))
async def test_a_dripping_answer_is_ended_by_a_deadline_around_the_call(
    case: str, simulator: RunningSimulator
) -> None:
    simulator.fault(settings_for(case, simulator).name, "drip")
    async with provider(case, simulator) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):
                await client.complete(request(PROVIDERS[case][0]), timeout_seconds=0.5)


@pytest.mark.parametrize("case", sorted(PROVIDERS))
async def test_a_port_where_nobody_listens_is_lost_before_sending(case: str) -> None:
    error = await failing(case, RunningSimulator("http://127.0.0.1:9"))
    assert error.failure_kind is FailureKind.LOST_BEFORE_SENDING


@pytest.mark.parametrize("case", sorted(PROVIDERS))
async def test_an_answer_of_the_simulator_says_so_and_names_no_tier(
    case: str, simulator: RunningSimulator
) -> None:
    async with provider(case, simulator) as client:
        answer = await client.complete(request(PROVIDERS[case][0]), timeout_seconds=10)
    assert answer.simulated and answer.tier == ""


async def test_a_response_of_the_simulators_background_says_so(simulator: RunningSimulator) -> None:
    async def started(response_id: str) -> None:
        pass

    wanted = settings_for("openai", simulator).model_copy(update={"background": True})
    client = provider_factory(wanted)("sim-key-12345678")
    answer = await client.complete(
        request("gpt-4o"), timeout_seconds=10, resume_handle=ResumeHandle(None, started)
    )
    await client.close()
    assert answer.simulated


async def test_the_tier_of_an_answer_of_geminis_is_in_a_header() -> None:
    candidate = types.Candidate(content=types.Content(parts=[types.Part(text="ano")]), finish_reason="STOP")
    told = types.HttpResponse(headers={"X-Gemini-Service-Tier": "flex"})
    response = types.GenerateContentResponse(candidates=[candidate], sdk_http_response=told)
    client = GeminiProvider(load_settings(api_base_url="http://localhost:1").provider("gemini"), "sim-key")
    answer = client._answer(request("gemini-2.5-flash"), response)
    await client.close()
    assert answer.tier == "flex" and not answer.simulated


SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 5, "maxLength": 60},
        "keywords": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "score": {"type": "integer", "minimum": 0, "maximum": 10},
    },
    "required": ["title", "keywords", "score"],
    "additionalProperties": False,
}
#: A schema that strict modes do not take: it must be asked for in another way.
LOOSE = {"type": "object", "properties": {"title": {"type": "string"}, "note": {"type": "string"}}}


@pytest.mark.parametrize("schema", [SCHEMA, LOOSE], ids=["strict", "loose"])
@pytest.mark.parametrize("case", PROVIDERS)
async def test_every_provider_is_bound_to_a_schema_in_its_own_way(
    simulator: RunningSimulator, case: str, schema: dict[str, object]
) -> None:
    async with provider(case, simulator) as client:
        answer = await client.complete(request(PROVIDERS[case][0], output_schema=schema), timeout_seconds=10)
    assert answer_problem(answer.text, schema) is None, answer.text


@pytest.mark.parametrize(
    ("case", "model"), [("openai", "gpt-4-turbo"), ("anthropic", "claude-3-5-haiku-20241022")]
)
async def test_a_model_that_cannot_be_bound_to_a_schema_gets_it_in_its_prompt(
    simulator: RunningSimulator, case: str, model: str
) -> None:
    async with provider(case, simulator) as client:
        answer = await client.complete(request(model, output_schema=SCHEMA), timeout_seconds=10)
    assert answer.text.startswith("[SIMULATOR]")  # it was sent, and the simulator follows no prompt


#: A model of each case with its window, and max_tokens.
WINDOWS = [
    ("openai", "gpt-4", 8_192, 100),
    ("openai-background", "gpt-4o", 128_000, 100),
    ("openai-chat", "gpt-3.5-turbo", 16_385, 100),
    ("anthropic", "claude-sonnet-4-5", 200_000, 100),
    ("anthropic", "claude-opus-4-1", 180_000, 30_000),  # of 200,000
    ("gemini", "gemini-2.5-flash", 1_048_576, 100),
    ("gemini-background", "gemini-2.5-flash", 1_048_576, 100),
]


@pytest.mark.parametrize(("case", "model", "window", "max_tokens"), WINDOWS)
async def test_an_input_that_exceeds_the_context_window_is_a_failure_of_its_own_kind(
    simulator: RunningSimulator, case: str, model: str, window: int, max_tokens: int
) -> None:
    simulator.put("limits", provider=PROVIDERS[case][1], input_tpm=100_000_000)
    short, long = ("slovo " * round(window * 0.6 * share) for share in (0.9, 1.1))
    async with provider(case, simulator) as client:
        await client.complete(request(model, user_message=short, max_tokens=max_tokens), timeout_seconds=30)
        with pytest.raises(ProviderError) as caught:
            await client.complete(request(model, user_message=long, max_tokens=max_tokens), timeout_seconds=30)
    assert caught.value.failure_kind is FailureKind.CONTEXT_EXCEEDED
    assert not caught.value.retryable and caught.value.traits.billed is Billed.NO
    assert "fewer rows or columns" in caught.value.remedy
