"""Keys and calls that go another way than one would expect: in plain text, past the proxy of the environment, or
with credentials from a file of other programs."""

import netrc
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from fleet.config import Settings
from fleet.control.health.doctor.check import NOT_SET, Check
from fleet.errors import SettingsError
from fleet.process.temporal_credentials import TemporalCredentials
from fleet.provider_settings import ProviderSettings
from fleet.providers.registry import provider_address
from fleet.providers.sdk_environment import withheld_proxies
from fleet.setting_types import is_loopback

_WITH_NETRC = "google-generativeai"


def exposure_checks(settings: Settings) -> Iterator[Check]:
    """One check for each doubt; none where there is nothing to doubt."""
    yield from _temporal(settings)
    if warning := withheld_proxies(os.environ, settings.sdk_variables):
        says, _, remedy = warning.removeprefix("warning: ").partition(" Remedy, if they must: ")
        yield Check("proxy", True, says, f"if they must, {remedy}")
    for provider in settings.providers.values():
        if provider.kind == "gemini" and provider.sdk == _WITH_NETRC:
            yield from _netrc(provider, {*settings.keep_variables, *settings.sdk_variables})


def _temporal(settings: Settings) -> Iterator[Check]:
    """A key that everybody on the way can read. What is wrong with the credentials is told by their own check."""
    host = settings.temporal_host.rpartition(":")[0].strip("[]")
    try:
        credentials = TemporalCredentials.of(settings)
    except SettingsError:
        return
    if credentials.api_key and not credentials.tls and not is_loopback(host) and NOT_SET not in host:
        says = f"insecure: the API key for Temporal goes to {settings.temporal_host} without TLS"
        yield Check("API key for Temporal", True, says, "unset TEMPORAL_TLS, which is false: a key turns TLS on")


def _netrc(provider: ProviderSettings, passed_on: Collection[str]) -> Iterator[Check]:
    """The older SDK for Gemini makes its calls by a library that looks into ~/.netrc."""
    named = os.environ.get("NETRC", "") if "NETRC" in passed_on else ""
    files = [Path(name).expanduser() for name in ([named] if named else ["~/.netrc", "~/_netrc"])]
    path = next((file for file in files if file.exists()), None)
    host = urlsplit(provider_address(provider)).hostname or ""
    try:
        found = path is not None and netrc.netrc(str(path)).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return
    if found:
        says = f"{path} has credentials for {host}, which {_WITH_NETRC} sends with every call"
        remedy = f"remove them there, or unset FLEET_PROVIDERS__{provider.name.upper()}__SDK"
        yield Check(f"netrc of {provider.name}", True, says, remedy)
