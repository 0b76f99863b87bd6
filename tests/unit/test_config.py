"""Settings: defaults that users rely on, sources, and errors that name the variable."""

import re
from pathlib import Path

import pytest

from fleet.config import PROJECT_ROOT, Settings, load_settings
from fleet.errors import SettingsError
from fleet.redaction import MASK
from fleet.terminal import harmless

BACKEND = "http://localhost:8000"


def settings(**overrides: object) -> Settings:
    return load_settings(**({"api_base_url": BACKEND} | overrides))


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    monkeypatch.setenv("API_BASE_URL", BACKEND)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


def test_the_defaults_are_those_of_the_deployment_guide() -> None:
    ours = settings()
    assert (ours.temporal_host, ours.temporal_namespace, ours.log_level) == ("localhost:7233", "default", "INFO")
    assert ours.activity_timeout_seconds == 600
    assert (ours.heartbeat_timeout_seconds, ours.heartbeat_interval_seconds) == (180, 30)
    assert (ours.default_temperature, ours.default_max_tokens) == (0.7, None)
    assert (ours.max_attempts, ours.backoff_coefficient) == (3, 2.0)
    assert (ours.log_rotation_mb, ours.log_backups) == (10, 5)
    assert sorted(ours.providers) == ["anthropic", "gemini", "openai"]
    assert ours.providers["openai"].queue == "llm-openai"
    assert ours.logs == PROJECT_ROOT / "logs"


def test_a_missing_backend_address_is_said_in_both_languages_with_its_remedy() -> None:
    with pytest.raises(SettingsError, match=r"API_BASE_URL není nastavena \(API_BASE_URL is not set\).*Remedy"):
        load_settings()


def test_an_empty_environment_variable_is_named_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "API_BASE_URL" in refusal(monkeypatch, API_BASE_URL="")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TEMPORAL_HOST", "localhost"),
        ("TEMPORAL_HOST", "localhost:70000"),
        ("TEMPORAL_NAMESPACE", ""),
        ("API_BASE_URL", "localhost:8000"),
        ("LOG_LEVEL", "LOUD"),
        ("FLEET_LOG_FORMAT", "xml"),
        ("FLEET_MAX_ATTEMPTS", "0"),
        ("FLEET_HEARTBEAT_TIMEOUT_SECONDS", "soon"),
        ("FLEET_DRAIN_SECONDS", "-1"),
        ("FLEET_CONTROL_PORT", "65536"),
        ("FLEET_PROVIDERS__OPENAI__CONCURRENCY", "0"),
        ("FLEET_PROVIDERS__OPENAI__KIND", "cohere"),
        ("FLEET_PROVIDERS__OPENAI__BASE_URL", "ftp://x"),
        ("FLEET_PROVIDERS__OPENAI__RPS", "1"),
    ],
)
def test_a_bad_value_is_refused_and_its_variable_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    assert variable in refusal(monkeypatch, **{variable: value})


def test_every_bad_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, LOG_LEVEL="LOUD", FLEET_MAX_ATTEMPTS="0")
    assert len(message.splitlines()) == 2


def test_heartbeats_too_rare_for_their_timeout_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "FLEET_HEARTBEAT_INTERVAL_SECONDS" in refusal(monkeypatch, FLEET_HEARTBEAT_INTERVAL_SECONDS="120")


def test_a_provider_is_added_by_configuration_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PROVIDERS__GROQ__BASE_URL", "https://groq.example/v1/")
    added = settings().added_providers
    assert [(provider.name, provider.queue, provider.base_url) for provider in added] == [
        ("groq", "llm-groq", "https://groq.example/v1")
    ]
    assert (added[0].openai_api, added[0].kind) == ("chat", "openai")
    assert settings().providers["openai"].openai_api == "responses"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FLEET_PROVIDERS__GROQ__KIND": "openai"}, "needs a base_url"),
        ({"FLEET_PROVIDERS__PIPELINE__KIND": "openai"}, "provider name 'pipeline'"),
        ({"FLEET_PROVIDERS__OPENAI__QUEUE": "pipeline"}, "already belongs to the pipelines"),
        ({"FLEET_PROVIDERS__OPENAI__QUEUE": "llm-gemini"}, "already belongs to provider"),
        ({"FLEET_PROVIDERS__ANTHROPIC__BACKGROUND": "true"}, "unset FLEET_PROVIDERS__ANTHROPIC__BACKGROUND"),
        (
            {"FLEET_PROVIDERS__OPENAI__BACKGROUND": "true", "FLEET_PROVIDERS__OPENAI__API": "chat"},
            "or set FLEET_PROVIDERS__OPENAI__API=responses",
        ),
        (
            {
                "FLEET_PROVIDERS__GEMINI__BACKGROUND": "true",
                "FLEET_PROVIDERS__GEMINI__SDK": "google-generativeai",
            },
            "or unset FLEET_PROVIDERS__GEMINI__SDK",
        ),
    ],
)
def test_a_provider_that_cannot_work_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str
) -> None:
    assert said in refusal(monkeypatch, **environment)


def test_a_disabled_provider_is_left_out_and_who_names_it_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PROVIDERS__GEMINI__ENABLED", "false")
    monkeypatch.setenv("FLEET_PROVIDERS__GROQ__ENABLED", "false")  # not even its address is missed
    ours = settings()
    assert (sorted(ours.providers), ours.disabled_providers) == (["anthropic", "openai"], ["gemini", "groq"])
    assert not ours.added_providers
    for name in ("gemini", "google", "groq"):
        with pytest.raises(SettingsError, match=r"is disabled \(FLEET_PROVIDERS__.*__ENABLED=false\)\. Remedy"):
            ours.provider(name)


@pytest.mark.parametrize(
    ("given", "prices"),
    [
        ({"": "0"}, (0, 0, None)),
        ({"": "0.5"}, (0.5, 0.5, None)),
        ({"__INPUT": "0.1", "__OUTPUT": "0.2", "__CACHED_INPUT": "0.05"}, (0.1, 0.2, 0.05)),
    ],
)
def test_a_providers_own_prices_are_one_number_or_one_for_each_kind_of_tokens(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], prices: tuple[float, float, float | None]
) -> None:
    for part, value in given.items():
        monkeypatch.setenv(f"FLEET_PROVIDERS__OPENAI__PRICES{part}", value)
    own = settings().provider("openai").prices
    assert own is not None and (own.input, own.output, own.cached_input) == prices


@pytest.mark.parametrize("prices", ["-1", "cheap", '{"input": 1}', "nan"])
def test_prices_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, prices: str) -> None:
    assert "FLEET_PROVIDERS__OPENAI__PRICES" in refusal(monkeypatch, FLEET_PROVIDERS__OPENAI__PRICES=prices)


def test_openai_and_gemini_may_go_on_with_calls_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "GEMINI"):
        monkeypatch.setenv(f"FLEET_PROVIDERS__{name}__BACKGROUND", "true")
    assert [provider.name for provider in settings().providers.values() if provider.background] == [
        "openai",
        "gemini",
    ]


def test_an_alias_finds_its_provider_and_a_stranger_is_named_with_the_remedy() -> None:
    assert settings().provider("claude").name == "anthropic"
    assert settings().provider("google").name == "gemini"
    with pytest.raises(SettingsError, match=r"unknown provider 'cohere'.*FLEET_PROVIDERS__COHERE__BASE_URL"):
        settings().provider("cohere")


def test_the_environment_wins_over_dotenv_and_dotenv_over_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("fleet.toml").write_text("max_attempts = 7\nmax_lost_workers = 7\n[providers.openai]\nrpm = 7\n", "utf-8")
    Path(".env").write_text("FLEET_MAX_ATTEMPTS=8\nAPI_BASE_URL=https://dotenv:1\n", "utf-8")
    monkeypatch.setenv("API_BASE_URL", "https://environment:1")
    ours = load_settings()
    assert (ours.api_base_url, ours.max_attempts, ours.max_lost_workers) == ("https://environment:1", 8, 7)
    assert ours.providers["openai"].rpm == 7
    assert ours.providers["openai"].kind == "openai"


@pytest.mark.parametrize(("text", "said"), [("max_atempts = 7", "max_atempts"), ("max_attempts =", "fleet.toml")])
def test_a_wrong_fleet_toml_is_named(text: str, said: str) -> None:
    Path("fleet.toml").write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=said):
        settings()


def test_a_misspelled_key_is_said_of_the_file_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "bad.toml"
    named.write_text("[providers.openai]\nrmp = 60\n", "utf-8")
    monkeypatch.setenv("FLEET_CONFIG", str(named))
    with pytest.raises(SettingsError, match=re.escape(f"(rmp in [providers.openai] of {named}) is not a setting")):
        settings()


@pytest.mark.parametrize("address", ["htp://localhost:8000", "localhost:8000", "http://", "http://a:0"])
def test_what_is_no_address_is_refused_with_a_remedy(address: str) -> None:
    with pytest.raises(SettingsError, match=r"is not an http\(s\) address. Remedy: write one such as http://"):
        settings(providers={"own": {"kind": "openai", "base_url": address}})


MISSPELLED = {
    "of a provider": (
        {"FLEET_PROVIDERS__OPENAI__RMP": "60"},
        "FLEET_PROVIDERS__OPENAI__RMP (rmp in [providers.openai] of fleet.toml) is not a setting "
        "(did you mean rpm?). Remedy: use one of allow_http, api, ",
    ),
    "of a model": (
        {"FLEET_PROVIDERS__OPENAI__MODELS__O3__INPUT_TMP": "60"},
        "is not a setting (did you mean input_tpm?). Remedy: use one of input_tpm, output_tpm, rpm, tpm",
    ),
    "a provider's name": (
        {"FLEET_PROVIDERS__OPENIA__RPM": "60"},
        "provider 'openia' (did you mean openai?) needs a base_url",
    ),
}


@pytest.mark.parametrize(("environment", "said"), MISSPELLED.values(), ids=MISSPELLED)
def test_a_misspelled_key_is_named_with_the_nearest_that_there_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str
) -> None:
    assert said in refusal(monkeypatch, **environment)


def test_a_misspelled_key_of_fleet_toml_is_named_with_the_nearest_that_there_is() -> None:
    Path("fleet.toml").write_text("max_atempts = 7\n", "utf-8")
    with pytest.raises(SettingsError, match=r"unknown setting max_atempts \(did you mean max_attempts\?\)"):
        settings()


def test_a_token_is_counted_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, FLEET_CONTROL_TOKEN="short")
    assert said == "FLEET_CONTROL_TOKEN=(not shown): must have at least 16 characters"


def test_a_provider_of_a_known_kind_needs_no_address() -> None:
    ours = settings().model_copy(update={"providers": {}})
    with pytest.raises(SettingsError, match=r"FLEET_PROVIDERS__GEMINI__KIND=gemini$"):
        ours.provider("gemini")


def test_another_state_folder_keeps_its_logs_to_itself(tmp_path: Path) -> None:
    assert settings(state_dir=tmp_path).logs == tmp_path / "logs"


def test_the_control_token_is_kept_out_of_everything_that_is_written() -> None:
    settings(control_token="sixteen-characters-and-more")
    assert harmless("the token is sixteen-characters-and-more.") == f"the token is {MASK}."


def test_a_key_in_a_wrong_setting_is_not_shown_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, LOG_LEVEL="x" * 60 + " sk-abcdefgh12345678abcdefgh12345678")
    assert "sk-abc" not in said and "LOG_LEVEL" in said


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("API_BASE_URL", "https://fleet:hunter2@backend.example"),
        ("API_BASE_URL", "https://fleet:hunter2/x@backend.example"),
        ("TEMPORAL_HOST", "fleet:hunter2@temporal.example:7233"),
        ("TEMPORAL_ADDRESS", "fleet:hunter2@temporal.example:7233"),
        ("FLEET_CONTROL_URL", "http://hunter2@vm1.example:8020"),
        ("FLEET_TEMPORAL_UI", "https://fleet:hunter2@ui.example"),
        ("FLEET_PROVIDERS__OPENAI__BASE_URL", "https://fleet:hunter2@proxy.example/v1"),
    ],
)
def test_credentials_in_an_address_are_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    message = refusal(monkeypatch, **{variable: value})
    assert variable in message and f"(not shown)@{value.rpartition('@')[2]}" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("address", ["http://backend:8000", "HTTP://10.0.0.7", "http://127.0.0.1.example"])
def test_plain_http_to_another_machine_is_refused_unless_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    message = refusal(monkeypatch, API_BASE_URL=address)
    assert f"API_BASE_URL='{address}': http is only allowed to this machine itself" in message
    assert "FLEET_BACKEND_ALLOW_HTTP=true" in message and "https" in message
    monkeypatch.setenv("FLEET_BACKEND_ALLOW_HTTP", "true")
    (warning,) = load_settings().warnings
    assert warning.startswith("insecure: ") and " Remedy: use https" in warning


@pytest.mark.parametrize(
    "address", ["http://localhost:8000", "http://127.0.0.2:8000", "http://[::1]:8000", "https://backend.example"]
)
def test_plain_http_to_this_machine_and_https_need_no_permission(address: str) -> None:
    assert settings(api_base_url=address).warnings == ()


def test_a_token_of_the_backend_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in refusal(monkeypatch, FLEET_BACKEND_TOKEN="hunter2")


@pytest.mark.parametrize(
    "address", ["https://llm.example/v1", "http://127.0.0.1:9/v1", "http://[::1]:9", "http://localhost:11434"]
)
def test_a_providers_address_is_encrypted_or_on_this_machine(address: str) -> None:
    assert settings(providers={"own": {"kind": "openai", "base_url": address}}).provider("own").base_url == address


def test_keys_go_over_plain_http_only_to_a_provider_that_is_named_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    address = {
        "FLEET_PROVIDERS__OWN__KIND": "openai",
        "FLEET_PROVIDERS__OWN__BASE_URL": "http://llm.example:8000/v1",
    }
    said = refusal(monkeypatch, **address)
    assert "'own'" in said and "llm.example" in said and "FLEET_PROVIDERS__OWN__ALLOW_HTTP=true" in said
    monkeypatch.setenv("FLEET_PROVIDERS__OWN__ALLOW_HTTP", "true")
    assert settings().provider("own").base_url == "http://llm.example:8000/v1"


def test_the_variables_that_an_sdk_may_read_are_named_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().sdk_variables == ()
    monkeypatch.setenv("FLEET_SDK_VARIABLES", "HTTPS_PROXY, OPENAI_ORG_ID")
    assert settings().sdk_variables == ("HTTPS_PROXY", "OPENAI_ORG_ID")


def test_a_folder_of_projects_stands_in_for_the_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEET_PROJECTS_DIR", str(tmp_path))
    ours = load_settings()
    assert ours.serves_projects and ours.api_base_url == "http://127.0.0.1:8000"
    monkeypatch.setenv("FLEET_PROJECTS_PORT", "8123")
    assert load_settings().api_base_url == "http://127.0.0.1:8123"
    monkeypatch.setenv("API_BASE_URL", "")
    assert load_settings().serves_projects, "an empty variable is as none"


def test_a_backend_of_ones_own_wins_over_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEET_PROJECTS_DIR", str(tmp_path))
    monkeypatch.setenv("API_BASE_URL", BACKEND)
    ours = load_settings()
    assert ours.api_base_url == BACKEND and not ours.serves_projects


def test_an_empty_folder_setting_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PROJECTS_DIR", "")
    with pytest.raises(SettingsError, match="API_BASE_URL není nastavena"):
        load_settings()


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1\n:9/", "http://127.0.0.1:9/\x1b]0;x", "http://127.0.0.1:9/a b"]
)
def test_an_address_with_invisible_characters_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("API_BASE_URL", address)
    with pytest.raises(SettingsError, match="invisible character"):
        load_settings()


@pytest.mark.parametrize("address", ["h:²", "h\n:1", "h:" + "9" * 5000])
def test_a_server_address_has_a_plain_port(address: str) -> None:
    with pytest.raises(SettingsError, match="must be host:port"):
        load_settings(API_BASE_URL="http://127.0.0.1:9", TEMPORAL_HOST=address)


def test_a_limit_is_a_finite_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PROVIDERS__OPENAI__RPM", "inf")
    with pytest.raises(SettingsError, match="FLEET_PROVIDERS__OPENAI__RPM"):
        load_settings(API_BASE_URL="http://127.0.0.1:9")


def test_settings_nested_too_deeply_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text("x = " + "[" * 3000)
    with pytest.raises(SettingsError, match="nested too deeply"):
        load_settings(API_BASE_URL="http://127.0.0.1:9")
