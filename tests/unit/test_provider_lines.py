"""What `fleet up` says of each provider: where its calls go, what they cost, how to change that."""

import pytest

from fleet.cli.fleet_record import FleetRecord
from fleet.cli.provider_lines import called_at, provider_lines
from fleet.cli.up import UpOptions
from fleet.config import Settings, load_settings
from fleet.devstack.detached_processes import ProcessRecord

LOCAL = {"base_url": "http://127.0.0.1:11434/v1"}
GROQ = {"base_url": "https://api.groq.com/openai/v1"}


def settings(**providers: dict[str, object]) -> Settings:
    return load_settings(api_base_url="http://localhost:1", providers=providers)


def record(*simulated: str) -> FleetRecord:
    simulator = "http://127.0.0.1:8010" if simulated else None
    backend = ProcessRecord("backend", 1, 1.0)
    return FleetRecord("t", "default", "b", "c:1", simulator, None, [backend], list(simulated))


def simulated(options: UpOptions, known: Settings) -> set[str]:
    return {name for name, provider in known.providers.items() if options.simulates(provider)}


def test_a_server_on_loopback_and_one_marked_so_are_used_as_they_are() -> None:
    known = settings(
        local=LOCAL, groq=GROQ, mistral=GROQ | {"simulate": False}, openai={"base_url": LOCAL["base_url"]}
    )
    assert simulated(UpOptions(), known) == {"anthropic", "gemini", "groq"}
    assert simulated(UpOptions(all_simulated=True), known) == set(known.providers)


def test_real_providers_are_all_that_are_not_marked_to_be_simulated() -> None:
    known = settings(local=LOCAL, groq=GROQ | {"simulate": True})
    assert simulated(UpOptions(real_providers=True), known) == {"groq"}


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        (LOCAL | {"needs_key": False}, "http://127.0.0.1:11434/v1, not paid; FLEET_PROVIDERS__OWN__SIMULATE=true"),
        (LOCAL | {"prices": 0}, "not paid; no key: set OWN_API_KEY, or FLEET_PROVIDERS__OWN__NEEDS_KEY=false"),
        (GROQ, "https://api.groq.com/openai/v1, calls are paid; no key: set OWN_API_KEY"),
    ],
)
def test_a_real_one_has_its_address_what_it_costs_and_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, provider: dict[str, object], said: str
) -> None:
    monkeypatch.delenv("OWN_API_KEY", raising=False)
    (line,) = (
        line for line in provider_lines(record(), settings(own=provider).providers.values()) if "own" in line
    )
    assert said in line


def test_a_simulated_one_says_how_its_calls_get_to_its_own_address() -> None:
    lines = provider_lines(record("groq"), [settings(groq=GROQ).provider("groq")])
    assert lines == [
        "  groq  simulated, nothing is paid; FLEET_PROVIDERS__GROQ__SIMULATE=false sends its calls to "
        "https://api.groq.com/openai/v1"
    ]


def test_a_command_calls_a_provider_where_the_fleet_does() -> None:
    groq = settings(groq=GROQ | {"needs_key": False}).provider("groq")
    assert called_at(record("groq"), groq).base_url == "http://127.0.0.1:8010/groq/v1"
    assert called_at(record("groq"), groq).needs_key
    assert called_at(record("openai"), groq) == called_at(None, groq) == groq
