"""What processes get of the environment of the command that starts them."""

from pathlib import Path

from fleet.cli.supervised_environment import supervised_environment
from fleet.config import load_settings
from fleet.process.child_environment import fleet_environment, machine_environment
from fleet.providers.sdk_environment import withheld_proxies

SHELL = {
    "PATH": "/usr/bin",
    "HOME": "/home/somebody",
    "LC_ALL": "cs_CZ.UTF-8",
    "SSL_CERT_FILE": "/etc/ca.pem",
    "CREDENTIALS_DIRECTORY": "/run/credentials/x",
    "FLEET_LOG_FORMAT": "json",
    "fleet_log_backups": "3",
    "FLEET_PROVIDERS__GROQ__MODELS__LLAMA-GUARD__RPM": "120",
    "API_BASE_URL": "http://localhost:8000",
    "TEMPORAL_API_KEY": "key-of-temporal",
    "AWS_SECRET_ACCESS_KEY": "of-the-shell",
    "LD_PRELOAD": "of-the-shell",
    "PYTHONPATH": "of-the-shell",
    "GIT_CONFIG_GLOBAL": "of-the-shell",
    "HTTPS_PROXY": "of-the-shell",
    "OPENAI_API_KEY": "of-the-shell",
}
MACHINE = {"PATH", "HOME", "LC_ALL", "SSL_CERT_FILE", "CREDENTIALS_DIRECTORY"}
FLEET = MACHINE | {
    "FLEET_LOG_FORMAT",
    "fleet_log_backups",
    "FLEET_PROVIDERS__GROQ__MODELS__LLAMA-GUARD__RPM",
    "API_BASE_URL",
    "TEMPORAL_API_KEY",
}


def test_only_what_every_program_needs_and_the_settings_are_passed_on() -> None:
    assert machine_environment(SHELL).keys() == MACHINE
    assert fleet_environment(SHELL).keys() == FLEET


def test_settings_name_what_is_passed_on_beside_that() -> None:
    settings = load_settings(
        api_base_url="http://localhost:1", sdk_variables="HTTPS_PROXY", keep_variables="PYTHONPATH, NOT_SET"
    )
    assert supervised_environment(SHELL, settings).keys() == FLEET | {"HTTPS_PROXY", "PYTHONPATH"}


def test_keys_are_passed_on_only_where_the_fleet_serves_its_projects(tmp_path: Path) -> None:
    serving = load_settings(projects_dir=tmp_path)
    assert supervised_environment(SHELL, serving).keys() == FLEET | {"OPENAI_API_KEY"}


def test_a_proxy_that_no_sdk_sees_is_named_with_its_remedy() -> None:
    assert "FLEET_SDK_VARIABLES=HTTPS_PROXY" in withheld_proxies({*SHELL, "NO_PROXY"}, ())
    assert withheld_proxies({*SHELL, "NO_PROXY"}, ("HTTPS_PROXY",)) == ""
