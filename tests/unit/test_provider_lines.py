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
        (
            LOCAL | {"needs_key": False},
            "http://127.0.0.1:11434/v1, calls of unknown price (free with FLEET_PROVIDERS__OWN__PRICES=0); "
            "FLEET_PROVIDERS__OWN__SIMULATE=true sends them",
        ),
        (
            LOCAL | {"prices": 0},
            "calls are free; no key: set OWN_API_KEY, or FLEET_PROVIDERS__OWN__NEEDS_KEY=false",
        ),
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


@pytest.mark.parametrize(
    ("base_url", "loopback"),
    [
        ("http://127.0.0.1:11434/v1", True),
        ("http://localhost:8080/v1", True),
        ("http://[::1]:8080/v1", True),
        ("http://10.0.0.7:8000/v1", False),
        ("https://localhost.example.com/v1", False),
    ],
)
def test_calls_without_a_key_are_of_unknown_price_on_this_machine_paid_elsewhere_and_free_with_prices_of_0(
    base_url: str, loopback: bool
) -> None:
    there = {"base_url": base_url, "allow_http": True, "needs_key": False}
    own = settings(mine=there, free=there | {"prices": 0}).providers
    mine, free = (provider_lines(record(), [own[name]])[0] for name in ("mine", "free"))
    assert own["mine"].on_loopback is loopback
    assert ("calls of unknown price" in mine, "calls are paid" in mine) == (loopback, not loopback)
    assert "calls are free; " in free
    assert "calls are paid" in provider_lines(record(), [settings().provider("openai")])[0]


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
