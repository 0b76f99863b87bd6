"""Every setting of the fleet, declared once.

Sources, the first that has a value wins: the environment, a ``.env`` file and a ``fleet.toml`` file
(fleet/setting_files.py), for Temporal's address and namespace the configuration of Temporal's own tools
(fleet/temporal_profile.py), the defaults below. The four variables that users have always had keep their names
(``TEMPORAL_HOST``, ``TEMPORAL_NAMESPACE``, ``API_BASE_URL``, ``LOG_LEVEL``); all others begin with
``FLEET_``. A provider's section is written ``FLEET_PROVIDERS__OPENAI__CONCURRENCY=8`` in the environment
and ``[providers.openai]`` in ``fleet.toml``.
"""

import re
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from fleet.contracts import ASSISTANTS_QUEUE, CONTROL_QUEUE, PIPELINE_QUEUE, llm_queue
from fleet.errors import SettingsError
from fleet.harmless_settings import not_harmless
from fleet.near_names import did_you_mean
from fleet.provider_settings import (
    BUILT_IN,
    KINDS,
    PROVIDER_ALIASES,
    ProviderSettings,
    no_background,
    plain_http,
)
from fleet.redaction import protect
from fleet.setting_errors import explain
from fleet.setting_files import refusal, setting_files
from fleet.setting_names import variable_of
from fleet.setting_types import (
    HostAndPort,
    HostNames,
    HttpUrl,
    Names,
    OptionalFile,
    Seconds,
    host_and_port,
    is_open_to_readers,
    none_if_empty,
    shown_value,
    upper,
)
from fleet.temporal_profile import load_profile

PROJECT_ROOT = Path(__file__).resolve().parents[1]
DEFAULT_STATE = PROJECT_ROOT / "state"
MakeSource = Callable[[], PydanticBaseSettingsSource]
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,30}")
RESERVED_PROGRAMS = frozenset({"pipeline", "assistants", "control", "logs", "guardian", "backend"})
#: Addresses that mean all of the machine's, and the loopback address that is one of them.
_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Settings(BaseSettings):
    """All settings. Durations are in seconds unless the name says otherwise.

    The text below a setting is its line in the deployment guides; scripts/settings_table.py reads it from here.
    """

    model_config = SettingsConfigDict(
        env_prefix="FLEET_",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    temporal_host: HostAndPort = Field("localhost:7233", validation_alias="TEMPORAL_HOST")
    """Address of the Temporal server, host:port. Wins over the TEMPORAL_ADDRESS of the `temporal` command."""
    temporal_namespace: str = Field("default", min_length=1, validation_alias="TEMPORAL_NAMESPACE")
    """Temporal namespace."""
    temporal_config: bool = True
    """Whether the `temporal` command's own configuration is used: TEMPORAL_ADDRESS, TEMPORAL_TLS*,
    TEMPORAL_API_KEY, TEMPORAL_PROFILE, `temporal.toml`. An embedded Temporal is used without it."""
    temporal_api_key_file: OptionalFile = None
    """File that contains the API key for Temporal; wins over TEMPORAL_API_KEY."""
    backend_allow_http: bool = False
    """Whether the Backend API may be on another machine without TLS; API keys can then be read on the way."""
    api_base_url: HttpUrl = Field(validation_alias="API_BASE_URL")
    """Base address of the Backend API. Required, unless FLEET_PROJECTS_DIR is set."""
    backend_token: Annotated[SecretStr | None, BeforeValidator(none_if_empty)] = Field(None, min_length=8)
    """Token for the Backend API, sent as `Authorization: Bearer`."""
    backend_token_file: OptionalFile = None
    """File that contains the token; wins over FLEET_BACKEND_TOKEN."""
    backend_ca_file: OptionalFile = None
    """PEM file of the authority that signed the backend's certificate; unset: the system's authorities."""
    backend_client_cert_file: OptionalFile = None
    """PEM file of the client certificate for the Backend API."""
    backend_client_key_file: OptionalFile = None
    """PEM file of its private key; unset: it is in the certificate's file."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(upper)] = Field(
        "INFO", validation_alias="LOG_LEVEL"
    )
    """Lowest level that is logged; DEBUG adds the assistants' inputs and outputs."""

    log_content: bool = True
    """Whether DEBUG logs the assistants' inputs and outputs; `false` keeps them out of the logs at every level."""
    log_format: Literal["text", "json"] = "text"
    """Format of the log files: `text` for people, `json` for machines."""
    log_dir: OptionalFile = None
    """Folder of the log files; if unset: `logs` beside the default state folder, or `<state>/logs` for another
    one."""
    log_rotation_mb: float = Field(10.0, gt=0, le=10_000)
    """Size in MB at which a log file is rotated."""
    log_backups: int = Field(5, ge=1, le=1000)
    """Rotated log files that are kept per process."""

    state_dir: Annotated[Path, BeforeValidator(lambda folder: folder or DEFAULT_STATE)] = DEFAULT_STATE
    """Folder for all files of a fleet except its logs: socket, programs.d, the embedded stack's data."""

    activity_timeout_seconds: Seconds = 600.0
    """Maximum duration of one attempt of an assistant."""
    heartbeat_timeout_seconds: Seconds = 180.0
    """Time without a heartbeat after which Temporal considers a worker dead."""
    heartbeat_interval_seconds: Seconds = 30.0
    """Time between heartbeats during a call; must be at most half of the heartbeat timeout."""
    max_attempts: int = Field(3, ge=1, le=100)
    """Provider failures after which an assistant fails for good; answers of 429 do not count."""
    max_lost_workers: int = Field(10, ge=1, le=1000)
    """Dead workers after which an assistant fails for good."""
    attempt_spacing_seconds: float = Field(40.0, ge=0, le=3600)
    """Failures as in an outage (5xx, lost connections) within this time after a counted one belong to its
    attempt."""
    retry_initial_seconds: Seconds = 1.0
    """Wait before the second attempt."""
    backoff_coefficient: float = Field(2.0, ge=1.0, le=10.0)
    """Factor by which each further wait grows."""
    retry_max_seconds: Seconds = 60.0
    """Maximum wait between attempts. If a provider asks for a longer one, its call is checked again after this
    time and waits on."""

    default_temperature: float = Field(0.7, ge=0.0, le=2.0)
    """Temperature of an assistant that sets none."""
    default_max_tokens: int | None = Field(None, ge=1)
    """Maximum output tokens of an assistant that sets none; if unset, the model's own maximum."""

    fallback_after_seconds: Seconds = 60.0
    """How long an assistant with a `fallback` waits to be started before it moves to the next provider's queue."""

    projects_dir: Annotated[Path | None, BeforeValidator(none_if_empty)] = None
    """Folder of projects; the program `backend` serves them on this machine if API_BASE_URL is not set."""
    projects_port: int = Field(8000, ge=1, le=65_535)
    """Port, on loopback, of the program `backend`."""
    backend_timeout_seconds: Seconds = 10.0
    """Timeout of one call to the Backend API."""
    backend_patience_seconds: Seconds = 900.0
    """How long a pipeline waits for an unreachable Backend API before it fails."""
    api_key_cache_seconds: float = Field(60.0, ge=0, le=3600)
    """How long an API key is kept in memory before it is fetched again."""

    drain_seconds: Seconds = 600.0
    """Maximum time for a worker to finish its calls after SIGTERM; stopwaitsecs (630) must stay above it."""
    pipeline_concurrency: int = Field(100, ge=2, le=10_000)
    """Workflow tasks that one pipeline process handles at the same time."""
    assistants_concurrency: int = Field(20, ge=1, le=1000)
    """Loads of assistants that one assistants process handles at the same time."""

    on_ambiguous: Literal["send", "fail"] = "send"
    """What happens to a call that was or may have been paid and gave no usable answer: it is sent again and
    counted (`send`), or fails for good (`fail`). An assistant's own `on_ambiguous` wins."""
    other_machine_seconds: float = Field(60.0, ge=0, le=3600)
    """How long to wait for the answer of a call that another machine may have sent. After that it counts as a call
    that may have been paid."""
    journal_keep_days: float = Field(7.0, gt=0, le=365)
    """How many days the journal keeps answers."""
    journal_max_mb: float = Field(500.0, ge=20, le=1_000_000)
    """Maximum size of one provider's journal on one host; the oldest calls that no pipeline needs are removed
    first."""

    loop_blocked_seconds: Seconds = 30.0
    """How long an event loop may be blocked before its process ends and is started again; while it starts, two
    minutes at the least."""

    metrics: bool = True
    """Whether the processes count what they do, for `/metrics` and the page."""
    metrics_by_project: bool = False
    """Whether costs are also counted by project; a metric then has the projects' names as a label. The metric
    `fleet_project_info` always has the names of those that this machine serves from a folder."""

    control_host: str = "127.0.0.1"
    """Address that the control process listens on."""
    control_port: int = Field(8020, ge=1, le=65_535)
    """Port that the control process listens on."""
    control_token: SecretStr | None = Field(None, min_length=16)
    """Token that allows pausing, resuming, scaling and rolling on the control process's page, and reading it; if
    unset, the page only shows."""
    control_open_reads: bool = False
    """Whether every user and program of this machine may read the page, with inputs, outputs and errors, without a
    login. Insecure on a machine with several users."""
    control_url: HttpUrl | None = None
    """Address at which other machines ask this one for its status; if unset: FLEET_CONTROL_HOST, the host name
    if that is 0.0.0.0, or none if it is a loopback address."""
    control_allowed_hosts: HostNames = ()
    """Further names under which the control process may be asked, separated by commas, e.g.
    `vm1.example.internal`. Its IP addresses, its host name and the names in FLEET_CONTROL_HOST and
    FLEET_CONTROL_URL need no entry."""
    temporal_ui: HttpUrl | None = None
    """Address of the Temporal UI, for links; `fleet up` sets it for the embedded one."""

    sdk_variables: Names = ()
    """Environment variables that the providers' SDKs may read, separated by commas, e.g. `HTTPS_PROXY`. All other
    variables of theirs, and all proxies, are withheld from them."""
    keep_variables: Names = ()
    """Further environment variables that the fleet's processes get, separated by commas. Without it they get the
    settings, those of FLEET_SDK_VARIABLES, and what every program needs, such as `PATH`, `HOME`, `TZ`."""

    providers: dict[str, ProviderSettings] = Field(default_factory=dict)
    """One section per enabled provider; openai, anthropic and gemini exist by default."""
    _disabled: frozenset[str] = PrivateAttr(frozenset())

    _warnings: tuple[str, ...] = PrivateAttr(())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over ``.env``, which wins over ``fleet.toml``."""
        return init_settings, env_settings, *(make() for make in reversed(file_sources(settings_cls).values()))

    @field_validator("api_base_url")
    @classmethod
    def _refuse_plain_http(cls, address: str, info: ValidationInfo) -> str:
        if is_open_to_readers(address) and not info.data.get("backend_allow_http"):
            raise ValueError(
                "http is only allowed to this machine itself, since API keys and prompts can be read on the way. "
                "Remedy: use https (docs/deployment.md, Secured servers); or, in a network that you trust, set "
                "FLEET_BACKEND_ALLOW_HTTP=true"
            )
        return address

    @model_validator(mode="before")
    @classmethod
    def _complete_providers(cls, values: Any) -> Any:
        """Lay what was configured over the built-in providers, and name each section by its key."""
        if not isinstance(values, dict) or not isinstance(values.get("providers", {}), dict):
            return values
        sections: dict[str, Any] = {name: {} for name in BUILT_IN}
        for name, section in values.get("providers", {}).items():
            if isinstance(section, ProviderSettings):
                section = section.model_dump()
            if isinstance(section, dict):
                sections[name] = sections.get(name, {}) | section
            else:
                sections[name] = section
        for name, section in sections.items():
            if isinstance(section, dict):
                section["name"] = name
                section.setdefault("kind", name if name in KINDS else "openai")
                section["queue"] = section.get("queue") or llm_queue(name)
        return values | {"providers": sections}

    @model_validator(mode="before")
    @classmethod
    def _own_backend(cls, values: Any) -> Any:
        """Without an API_BASE_URL, the Backend API is the program that serves the folder of projects."""
        if not isinstance(values, dict) or not values.get("projects_dir"):
            return values
        if values.get("API_BASE_URL") or values.get("api_base_url"):
            return values
        port = values.get("projects_port") or cls.model_fields["projects_port"].default
        return values | {"API_BASE_URL": f"http://127.0.0.1:{port}"}

    @model_validator(mode="after")
    def _leave_out_disabled(self) -> Self:
        """Nothing of a disabled provider is used, so nothing but its name is kept."""
        self._disabled = frozenset(name for name, provider in self.providers.items() if not provider.enabled)
        for name in self._disabled:
            del self.providers[name]
        return self

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.heartbeat_interval_seconds * 2 > self.heartbeat_timeout_seconds:
            raise ValueError(
                "FLEET_HEARTBEAT_INTERVAL_SECONDS must be at most half of FLEET_HEARTBEAT_TIMEOUT_SECONDS, "
                "or one late heartbeat looks like a dead worker"
            )
        queues: dict[str, str] = {
            PIPELINE_QUEUE: "the pipelines",
            ASSISTANTS_QUEUE: "the assistants",
            CONTROL_QUEUE: "the budgets",
        }
        for name, provider in self.providers.items():
            if not NAME_PATTERN.fullmatch(name) or name in RESERVED_PROGRAMS:
                raise ValueError(
                    f"provider name {name!r}: use lower-case letters, digits, - and _, beginning with a "
                    f"letter, and none of {', '.join(sorted(RESERVED_PROGRAMS))}"
                )
            if provider.background and not provider.has_background:
                raise ValueError(no_background(provider))
            if provider.base_url and is_open_to_readers(provider.base_url) and not provider.allow_http:
                raise ValueError(plain_http(provider))
            if name not in KINDS and provider.base_url is None:
                near = did_you_mean(name, BUILT_IN)
                variable = f"FLEET_PROVIDERS__{name.upper()}__BASE_URL"
                raise ValueError(f"provider {name!r}{near} needs a base_url ({variable})")
            for queue in provider.limits:
                if taken := queues.get(queue):
                    raise ValueError(f"provider {name!r}: queue {queue!r} already belongs to {taken}")
                queues[queue] = f"provider {name!r}"
        return self

    def provider(self, name: str) -> ProviderSettings:
        """The section of the provider of that name or alias.

        Raises:
            SettingsError: no such provider is configured, or it is disabled.
        """
        known = self.providers.get(PROVIDER_ALIASES.get(name, name))
        self.refuse_disabled(PROVIDER_ALIASES.get(name, name))
        if known is None:
            variable = f"FLEET_PROVIDERS__{name.upper()}__"
            variable += f"KIND={name}" if name in KINDS else "BASE_URL"
            raise SettingsError(
                f"unknown provider {name!r}; configured are {', '.join(sorted(self.providers))}. Remedy: correct "
                f"the assistant's model_provider, or add the provider with {variable}"
            )
        return known

    def refuse_disabled(self, name: str) -> None:
        """Raise SettingsError if this is the name of a disabled provider."""
        if name in self._disabled:
            raise SettingsError(
                f"provider {name!r} is disabled (FLEET_PROVIDERS__{name.upper()}__ENABLED=false). Remedy: name "
                f"another one ({', '.join(sorted(self.providers)) or 'none is enabled'}), or remove that setting "
                "and restart the fleet"
            )

    @property
    def disabled_providers(self) -> list[str]:
        """The names of the providers that are left out."""
        return sorted(self._disabled)

    @property
    def added_providers(self) -> list[ProviderSettings]:
        """The providers beyond the three that ``supervisord.conf`` knows, by name."""
        return [self.providers[name] for name in sorted(self.providers) if name not in BUILT_IN]

    @property
    def serves_projects(self) -> bool:
        """Whether the program ``backend`` runs on this machine and is its Backend API."""
        return self.projects_dir is not None and self.api_base_url == f"http://127.0.0.1:{self.projects_port}"

    @property
    def control_address(self) -> str:
        """Where other machines reach this one's control process; empty where they cannot."""
        if self.control_url is not None:
            return self.control_url
        if self.control_is_local:
            return ""
        host = self.control_host
        if host in _EVERY_ADDRESS:
            host = socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.control_port}"

    @property
    def control_is_local(self) -> bool:
        """Whether the control process listens on a loopback address, where other machines cannot reach it."""
        host = self.control_host
        return host in ("localhost", "::1") or host.startswith("127.")

    @property
    def page_address(self) -> str:
        """Where this machine reaches its control process: its address, or loopback if it listens on all."""
        host = _EVERY_ADDRESS.get(self.control_host, self.control_host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.control_port}"

    @property
    def page_is_reachable(self) -> bool:
        """Whether the page, which only answers to loopback names, can be opened at all."""
        return self.control_host in (*_EVERY_ADDRESS, "localhost", "127.0.0.1", "::1")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful in them, and what to do: one line each."""
        return self._warnings

    @property
    def logs(self) -> Path:
        """The folder of the log files."""
        if self.log_dir is not None:
            return self.log_dir
        default = type(self).model_fields["state_dir"].default
        return PROJECT_ROOT / "logs" if self.state_dir == default else self.state_dir / "logs"


def variables() -> list[str]:
    """The environment variables of all settings; those of the providers' sections begin with the one of
    ``providers``."""
    return [
        str(field.validation_alias or f"FLEET_{name.upper()}") for name, field in Settings.model_fields.items()
    ]


def file_sources(settings: type[BaseSettings] = Settings) -> dict[Path, MakeSource]:
    """The settings files, the later one wins, each with what makes its source, which may read it at once.

    Raises:
        SettingsError: a file is named that does not exist.
    """
    files = setting_files()
    return {
        files.toml: partial(TomlConfigSettingsSource, settings, toml_file=files.toml),
        files.env: partial(DotEnvSettingsSource, settings, env_file=files.env),
    }


def _refuse_foreign(overrides: Mapping[str, Any]) -> None:
    """Raise SettingsError if a foreign settings file sets what is not harmless, and no source above it does."""
    foreign = setting_files().foreign
    if not foreign:
        return
    given = _refused(overrides) | _refused(_found_by(partial(EnvSettingsSource, Settings)))
    for file, make in file_sources().items():
        if file in foreign and (places := _refused(_found_by(make)) - given):
            raise refusal(file, {_variable_at(place) for place in places})


def _refused(values: Mapping[str, Any]) -> set[tuple[str, ...]]:
    return not_harmless(values, Settings.model_fields.keys())


def _found_by(make: MakeSource) -> dict[str, Any]:
    """What a source has; nothing if it cannot be read, which is reported when the settings are."""
    try:
        return make()()
    except (SourceError, ValueError, OSError, RecursionError):
        return {}


def _variable_at(place: tuple[str, ...]) -> str:
    alias = Settings.model_fields[place[0]].validation_alias
    return str(alias) if alias and len(place) == 1 else variable_of(place)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from their sources; ``overrides`` win over all of them.

    Raises:
        SettingsError: one line for each setting that is missing or wrong, naming its variable.
    """
    _refuse_foreign(overrides)
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(explain(error)) from None
    except RecursionError:
        raise SettingsError(
            "the settings cannot be read: a value is nested too deeply. Remedy: correct .env, fleet.toml or the "
            "environment"
        ) from None
    except (SourceError, ValueError) as error:  # unreadable TOML, or JSON expected in a variable
        raise SettingsError(f"the settings cannot be read: {error}. Remedy: correct .env or fleet.toml") from None
    _refuse_unknown_toml_keys()
    _protect_secrets(settings)
    if is_open_to_readers(settings.api_base_url):
        settings._warnings += (
            f"insecure: what goes to the backend at {settings.api_base_url} is not encrypted, API keys included. "
            "Remedy: use https, and unset FLEET_BACKEND_ALLOW_HTTP",
        )
    return with_temporal_config(settings, warn="TEMPORAL_HOST" not in overrides)


def with_temporal_config(settings: Settings, *, warn: bool = True) -> Settings:
    """The settings with the address and the namespace of Temporal's own configuration, where they have none of
    their own. ``warn``: a different address there is among the ``warnings``.

    Raises:
        SettingsError: that configuration is wrong.
    """
    if not settings.temporal_config:
        return settings
    profile, found = load_profile(), {}
    given = settings.model_fields_set
    if profile.address and "temporal_host" not in given:
        found["temporal_host"] = _address_of_profile(profile.address)
    if profile.namespace and "temporal_namespace" not in given:
        found["temporal_namespace"] = profile.namespace
    settings = settings.model_copy(update=found)
    if warn and profile.address and profile.address != settings.temporal_host:
        settings._warnings += (
            f"TEMPORAL_HOST={settings.temporal_host} wins over TEMPORAL_ADDRESS={shown_value(profile.address)}. "
            "Remedy: unset TEMPORAL_HOST, or set both to the same address; or FLEET_TEMPORAL_CONFIG=false",
        )
    return settings


def _address_of_profile(address: str) -> str:
    try:
        return host_and_port(address)
    except ValueError as error:
        raise SettingsError(
            f"TEMPORAL_ADDRESS={shown_value(address)}: {error}. Remedy: correct it in the environment or "
            "temporal.toml"
        ) from None


def _protect_secrets(settings: BaseModel) -> None:
    """Keep the settings' own secrets, such as the control token, out of everything that this process writes."""
    for value in dict(settings).values():
        if isinstance(value, SecretStr):
            protect(value.get_secret_value())
        elif isinstance(value, BaseModel):
            _protect_secrets(value)
        elif isinstance(value, dict):
            for section in value.values():
                if isinstance(section, BaseModel):
                    _protect_secrets(section)


def _refuse_unknown_toml_keys() -> None:
    path = setting_files().toml
    if not path.is_file():
        return
    import tomllib

    known = {field.validation_alias or name for name, field in Settings.model_fields.items()}
    known |= set(Settings.model_fields)
    names = {str(name) for name in known}
    unknown = sorted(set(tomllib.loads(path.read_text("utf-8"))) - names)
    if unknown:
        said = ", ".join(f"{name}{did_you_mean(name, sorted(names))}" for name in unknown)
        raise SettingsError(f"{path}: unknown setting {said}. Remedy: correct or remove it")
