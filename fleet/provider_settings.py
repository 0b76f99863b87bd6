"""The settings of a provider, and the kinds of providers that there are."""

import re
from contextlib import suppress
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fleet.contracts import LimitSettings
from fleet.setting_types import HttpUrl, OptionalFile, Seconds, is_loopback

#: Spellings of a provider that databases contain beside its name.
PROVIDER_ALIASES = {"claude": "anthropic", "google": "gemini"}

#: The kinds of providers, each with a folder of that name in fleet/providers; CONTRIBUTING.md says what else.
KINDS = ["openai", "anthropic", "gemini"]


def _kind(value: str) -> str:
    if value not in KINDS:
        raise ValueError(f"must be one of {', '.join(KINDS)}")
    return value


Kind = Annotated[str, AfterValidator(_kind)]


class PriceSettings(BaseModel):
    """Prices of a provider's tokens, in US dollars for a million; the price of cached input is that of other input
    if it is not set."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(None, ge=0)

    @property
    def free(self) -> bool:
        """Whether nothing has to be paid."""
        return not (self.input or self.output or self.cached_input)


def _prices(value: Any) -> Any:
    """A single number, such as 0 for a model of one's own, is the price of all tokens."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    return {"input": value, "output": value} if isinstance(value, int | float) else value


#: Stands for all models that are not named.
_EVERY_MODEL = "*"


def _windows(value: Any) -> dict[str, int]:
    """A single number is the window of every model."""
    found = dict(value) if isinstance(value, dict) else {_EVERY_MODEL: value}
    for model, tokens in found.items():
        digits = tokens.isascii() and tokens.isdigit() if isinstance(tokens, str) else isinstance(tokens, int)
        if not digits or isinstance(tokens, bool) or int(tokens) < 0:
            raise ValueError('must be a whole number of tokens, or one for each model: {"llama3:8b": 8192}')
        found[model] = int(tokens)
    return found


class ModelSettings(BaseModel):
    """Limits of one model, where a provider counts it apart; such a model has a queue and a budget of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rpm: float | None = Field(None, gt=0)
    tpm: float | None = Field(None, gt=0)
    input_tpm: float | None = Field(None, gt=0)
    output_tpm: float | None = Field(None, gt=0)


class ProviderSettings(BaseModel):
    """One provider: its wire format, address, task queue and limits.

    ``api`` chooses between OpenAI's Responses API and chat completions; unset, it is ``responses`` for
    OpenAI itself and ``chat`` for any other ``base_url``. ``sdk`` chooses Google's package. ``rpm`` is
    requests a minute, ``tpm`` all tokens a minute, ``input_tpm`` and ``output_tpm`` tokens where a provider
    counts them apart; None where no limit is known. ``models`` has those with limits of their own.
    ``background`` has the provider go on with a call when its process dies, to be picked up by the next; it then
    keeps the answer for a while. OpenAI's Responses API has such calls, and so has Gemini's Interactions API, by
    google-genai.
    ``concurrency`` is calls in flight per process; ``timeout_seconds`` the deadline of one whole call.
    ``api_key_file`` contains its API key; unset, the key comes from the Backend API.
    ``needs_key`` false: it is called without a key, and none is asked for. ``enabled`` false: the provider is left
    out; it has no process and no queue. ``simulate`` is for `fleet up`: true sends its calls to the simulator,
    false to its own address; unset, only a ``base_url`` on a loopback address is used as it is. ``prices`` replace
    the known ones; one number is the price of all tokens, 0 for a model server of one's own.
    ``context_window`` is that of its models, in tokens, or of each by its name: a larger input is refused before
    it is sent. Unset, it is the known one of each model; 0: nothing is refused here.
    ``allow_http`` permits a ``base_url`` of plain http that leaves this machine: keys and texts are then readable
    on the way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = ""
    kind: Kind
    base_url: HttpUrl | None = None
    queue: str = ""
    concurrency: int = Field(10, ge=1, le=1000)
    rpm: float | None = Field(None, gt=0)
    tpm: float | None = Field(None, gt=0)
    input_tpm: float | None = Field(None, gt=0)
    output_tpm: float | None = Field(None, gt=0)
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    timeout_seconds: Seconds = 600.0
    api: Literal["responses", "chat"] | None = None
    sdk: Literal["google-genai", "google-generativeai"] = "google-genai"
    needs_key: bool = True
    api_key_file: OptionalFile = None
    background: bool = False
    enabled: bool = True
    simulate: bool | None = None
    prices: Annotated[PriceSettings | None, BeforeValidator(_prices)] = None
    context_window: Annotated[dict[str, int] | None, BeforeValidator(_windows)] = None
    allow_http: bool = False

    @property
    def limits(self) -> dict[str, LimitSettings]:
        """The limits of each of its queues: its own, and one for each model with limits of its own."""
        queues = {self.queue: LimitSettings(self.rpm, self.tpm, self.input_tpm, self.output_tpm)}
        for model, own in self.models.items():
            queues[self.queue_of(model)] = LimitSettings(own.rpm, own.tpm, own.input_tpm, own.output_tpm)
        return queues

    def own_window(self, model: str) -> int | None:
        """The context window of a model by these settings; None if they do not say."""
        own = self.context_window or {}
        return own.get(model, own.get(_EVERY_MODEL))

    def queue_of(self, model: str) -> str:
        """The task queue of a model's calls."""
        if model not in self.models:
            return self.queue
        return f"{self.queue}-{re.sub(r'[^A-Za-z0-9_.-]', '_', model)}"

    @property
    def on_loopback(self) -> bool:
        """Whether its ``base_url`` is an address of this machine only."""
        return is_loopback(urlsplit(self.base_url or "").hostname or "")

    @property
    def key_from_backend(self) -> bool:
        """Whether its API key comes from the Backend API."""
        return self.needs_key and self.api_key_file is None

    @property
    def openai_api(self) -> Literal["responses", "chat"]:
        """Which of OpenAI's two APIs to speak."""
        return self.api or ("responses" if self.name == "openai" else "chat")

    @property
    def has_background(self) -> bool:
        """Whether its API has calls that go on without their process."""
        if self.kind == "gemini":
            return self.sdk == "google-genai"
        return self.kind == "openai" and self.openai_api == "responses"


#: Those that ``supervisord.conf`` has programs for.
BUILT_IN = ("openai", "anthropic", "gemini")


def no_background(provider: ProviderSettings) -> str:
    """Why a provider cannot have ``background``, and what to do."""
    variables = f"FLEET_PROVIDERS__{provider.name.upper()}__"
    instead = {
        "openai": f", or set {variables}API=responses where the endpoint has that API",
        "gemini": f", or unset {variables}SDK: google-genai has them",
    }.get(provider.kind, "")
    return (
        f"provider {provider.name!r}: with these settings it has no calls in the background. "
        f"Remedy: unset {variables}BACKGROUND{instead}"
    )


def plain_http(provider: ProviderSettings) -> str:
    variables = f"FLEET_PROVIDERS__{provider.name.upper()}__"
    host = urlsplit(provider.base_url or "").hostname
    return (
        f"provider {provider.name!r}: keys and texts would go to {host} over plain http. Remedy: use https in "
        f"{variables}BASE_URL; or, if the network on the way is trusted, set {variables}ALLOW_HTTP=true"
    )
