"""google-generativeai, unmodified, against the simulator; in an environment of its own."""

import asyncio
from dataclasses import replace

import pytest

from fleet.devstack.simulator.latency import Latency
from fleet.devstack.simulator.testing import running_simulator
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.model_options import ModelOptions
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmRequest
from fleet.providers.registry import provider_factory
from tests.waiting import wait_for

REQUEST = LlmRequest("gemini-2.5-flash", "Piš česky.", "Téma: kávovary", 0.7, None, 4000, "fleet-1")
FAILURE_KINDS = {
    "429": FailureKind.RATE,
    "day_quota": FailureKind.MODEL_QUOTA,
    "quota": FailureKind.QUOTA_SPENT,
    "500": FailureKind.OUTAGE,
    "503": FailureKind.OUTAGE,
    "revoked_key": FailureKind.KEY_REJECTED,
    "404": FailureKind.NOT_FOUND,
    "400": FailureKind.BAD_REQUEST,
    "hang": FailureKind.TIMED_OUT,
    "reset": FailureKind.LOST_AFTER_SENDING,
    "html": FailureKind.UNUSABLE_BODY,
    "empty_json": FailureKind.UNUSABLE_BODY,
    "redirect": FailureKind.UNUSABLE_BODY,
}


def settings(base_url: str) -> ProviderSettings:
    return ProviderSettings(name="gemini", kind="gemini", base_url=base_url, sdk="google-generativeai")


async def test_a_call_is_answered_with_text_usage_and_the_key_of_all_attempts() -> None:
    with running_simulator() as simulator:
        client = provider_factory(settings(simulator.base_url))("sim-key-12345678")
        answer = await client.complete(REQUEST, timeout_seconds=10)
        (call,) = simulator.ledger()
    assert answer.text.startswith("[SIMULATOR]") and answer.finish_reason == "stop"
    assert answer.simulated and answer.tier == ""
    assert (call["provider"], call["idempotency_key"], call["outcome"]) == ("gemini", "fleet-1", "answered")
    assert (answer.input_tokens, answer.output_tokens) == (call["input_tokens"], call["output_tokens"])


@pytest.mark.parametrize("kind", sorted(FAILURE_KINDS))
async def test_a_fault_has_its_meaning_and_is_sent_once(kind: str) -> None:
    with running_simulator() as simulator:
        simulator.fault("gemini", kind)
        client = provider_factory(settings(simulator.base_url))("sim-key-12345678")
        with pytest.raises(ProviderError) as caught:
            await client.complete(REQUEST, timeout_seconds=1.0)
        assert caught.value.failure_kind is FAILURE_KINDS[kind]
        assert len(simulator.ledger()) == 1
        assert simulator.stats()["elsewhere"] == []


async def test_as_many_calls_are_made_at_once_as_the_setting_says() -> None:
    with running_simulator(latency=Latency(30.0, 0.0, 0.0)) as simulator:
        wanted = settings(simulator.base_url)
        client = provider_factory(wanted)("sim-key-12345678")
        calls = [
            asyncio.create_task(client.complete(REQUEST, timeout_seconds=3.0)) for _ in range(wanted.concurrency)
        ]

        def in_flight() -> bool:
            return sum(call["outcome"] == "in_flight" for call in simulator.ledger()) == wanted.concurrency

        await asyncio.to_thread(wait_for, "all are on their way", in_flight, 3)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        await client.close()
    assert all(isinstance(error, ProviderError) for error in ended)


async def test_an_answer_ends_before_a_stop() -> None:
    with running_simulator() as simulator:
        client = provider_factory(settings(simulator.base_url))("sim-key-12345678")
        request = replace(REQUEST, options=ModelOptions(stop=["simulátoru, ne"]))
        answer = await client.complete(request, timeout_seconds=10)
        (body,) = simulator.bodies
    assert body["generationConfig"]["stopSequences"] == ["simulátoru, ne"]
    assert answer.text.endswith("text ") and answer.finish_reason == "stop"
