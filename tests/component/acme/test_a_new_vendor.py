"""A vendor is four places: its folder in ``fleet/providers``, its wire in the simulator, its entry in the
settings, its tests. Acme has those alone; everything else finds it from there."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import fleet.providers
from fleet.budgets.worker.call_costs import Costs
from fleet.budgets.worker.limit_headers import limits_in
from fleet.config import Settings, load_settings
from fleet.contracts import Limited
from fleet.devstack.conformance import CHECKS, conformance, endpoint
from fleet.devstack.simulated_settings import simulated_providers
from fleet.devstack.simulator import wires
from fleet.devstack.simulator.testing import RunningSimulator, running_simulator
from fleet.devstack.simulator.vendors import all_vendors
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.process.metrics import Metrics
from fleet.provider_settings import KINDS, ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest
from fleet.providers.registry import provider_address, provider_factory, spec_of
from fleet.providers.session import ProviderSession

HERE = Path(__file__).parent
REQUEST = LlmRequest("anvil-1", "Be brief.", "What is an anvil?", 0.7, None, 2000, "fleet-1")


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Acme's entry in the settings, and its files as if they lay in ``fleet/``."""
    homes = {fleet.providers: HERE / "providers", wires: HERE / "wires"}
    for package, folder in homes.items():
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    KINDS.append("acme")
    all_vendors.cache_clear()
    yield
    KINDS.remove("acme")
    spec_of.cache_clear()
    all_vendors.cache_clear()
    for package in homes:
        name = f"{package.__name__}.acme"
        for loaded in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
            del sys.modules[loaded]
        vars(package).pop("acme", None)


@pytest.fixture
def simulator(acme: None) -> Iterator[RunningSimulator]:
    with running_simulator() as running:
        yield running


@pytest.fixture
def settings(simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> ProviderSettings:
    """Acme's settings as ``fleet up`` points them at the simulator."""
    monkeypatch.setenv("FLEET_PROVIDERS__ACME__CONCURRENCY", "5")
    for name, value in simulated_providers(simulator.base_url, loaded_settings().providers.values()).items():
        monkeypatch.setenv(name, value)
    return loaded_settings().provider("acme")


def loaded_settings() -> Settings:
    return load_settings(api_base_url="http://localhost:1")


@asynccontextmanager
async def session(settings: ProviderSettings) -> AsyncIterator[ProviderSession]:
    async def key(fresh: bool) -> str:
        return "sim-key-12345678"

    made = ProviderSession(settings, provider_factory(settings), key, Metrics())
    try:
        yield made
    finally:
        await made.close()


async def answer(settings: ProviderSettings) -> LlmAnswer:
    async with session(settings) as made:
        return await made.complete(REQUEST, timeout_seconds=10)


async def failure(settings: ProviderSettings) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await answer(settings)
    return caught.value


def test_its_settings_need_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PROVIDERS__ACME__CONCURRENCY", "5")
    (settings,) = loaded_settings().added_providers
    assert (settings.kind, settings.concurrency, settings.queue) == ("acme", 5, "llm-acme")
    assert provider_address(settings) == "https://api.acme.invalid"


async def test_a_call_is_answered(settings: ProviderSettings, simulator: RunningSimulator) -> None:
    answered = await answer(settings)
    assert answered.text.startswith("[SIMULATOR] acme/anvil-1") and answered.simulated
    (call,) = simulator.ledger()
    assert (call["provider"], call["outcome"], call["idempotency_key"]) == ("acme", "answered", "fleet-1")
    assert (call["input_tokens"], call["output_tokens"]) == (answered.input_tokens, answered.output_tokens)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("slow_down", FailureKind.SLOW_DOWN),  # by its code: the status alone, 503, is an outage
        ("quota", FailureKind.QUOTA_SPENT),
        ("503", FailureKind.OUTAGE),
        ("reset", FailureKind.LOST_AFTER_SENDING),
    ],
)
async def test_its_errors_mean_what_its_spec_says(
    fault: str, expected: FailureKind, settings: ProviderSettings, simulator: RunningSimulator
) -> None:
    simulator.fault("acme", fault)
    assert (await failure(settings)).failure_kind is expected


async def test_the_simulator_holds_it_to_its_limits_and_charges_as_its_wire_says(
    settings: ProviderSettings, simulator: RunningSimulator
) -> None:
    simulator.put("limits", provider="acme", rpm=1, input_tpm=60_000)
    await answer(settings)
    (tokens,) = [bucket for bucket in simulator.buckets("acme") if bucket["kind"] == "input_tokens"]
    assert tokens["capacity"] - tokens["level"] < 100  # OpenAI would have charged max_tokens
    assert (await failure(settings)).failure_kind is FailureKind.RATE


async def test_its_limit_headers_are_read(settings: ProviderSettings, simulator: RunningSimulator) -> None:
    simulator.put("limits", provider="acme", rpm=100, input_tpm=60_000)
    told = limits_in((await answer(settings)).headers)
    assert {reading.what: reading.limit for reading in told} == {Limited.REQUESTS: 100, Limited.TOKENS: 60_000}


def test_its_calls_cost_what_its_spec_says() -> None:
    answered = LlmAnswer("An iron block.", "anvil-1", "stop", input_tokens=30, output_tokens=900)
    assert Costs("acme").actual(REQUEST, answered)[Limited.TOKENS] == 30


async def test_the_conformance_checks_pass(simulator: RunningSimulator) -> None:
    lines: list[str] = []
    assert await conformance([endpoint(simulator.base_url, "acme")], lines.append) == 0, lines
    assert len(lines) == len(CHECKS)
