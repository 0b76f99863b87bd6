"""Which variables of the environment a provider's SDK may read.

The SDKs take addresses, organisations, headers, credentials, proxies and log levels from the environment where an
argument is missing: ``OPENAI_ORG_ID``, ``OPENAI_CUSTOM_HEADERS``, ``ANTHROPIC_CUSTOM_HEADERS``,
``GOOGLE_GENAI_REPLAYS_DIRECTORY`` and many more, some of them at import, some at a call. A variable that was left
behind for another program would change where a call goes, what it carries and who pays. So a worker removes them
all, by prefix, since each release of an SDK has new ones; ``FLEET_SDK_VARIABLES`` names those that stay.

Variables that name trusted certificates (``SSL_CERT_FILE``, ``SSL_CERT_DIR``) stay: they belong to the machine.
"""

import os
import re
from collections.abc import Collection, Iterable

from loguru import logger

#: Variables of openai 3, anthropic 2 and google-genai 3, and of the libraries that they load.
_OF_SDKS = re.compile(
    r"(AZURE_)?OPENAI_.*|ANTHROPIC_.*|GOOGLE_.*|GEMINI_.*|GENAI_.*|GCLOUD_.*|CLOUDSDK_.*|CLOUD_SDK_.*|OTEL_.*"
    r"|SSLKEYLOGFILE"  # writes down the secrets of each connection
)
#: Read by httpx2 in each client; NO_PROXY can only take a proxy away.
_PROXIES = re.compile(r"(?!no_)\w+_proxy", re.IGNORECASE)


def withhold_variables(allowed: Collection[str]) -> list[str]:
    """Remove all variables of SDKs and all proxies from this process's environment, except ``allowed``.

    Returns the names of those removed. To be called before an SDK is imported: some variables are read at import.
    """
    removed = [name for name in sorted(os.environ) if _is_of_sdks(name) and name not in allowed]
    for name in removed:
        del os.environ[name]
    if removed:
        proxies = any(_PROXIES.fullmatch(name) for name in removed)
        logger.log(
            "WARNING" if proxies else "INFO",
            "the provider's SDK does not see {}. Remedy, if one is meant for it: name it in FLEET_SDK_VARIABLES",
            ", ".join(removed),
        )
    return removed


def withheld_proxies(environment: Iterable[str], allowed: Collection[str]) -> str:
    """A warning that names the proxies among these variables which no SDK sees; empty if there is none."""
    names = [name for name in sorted(environment) if _PROXIES.fullmatch(name) and name not in allowed]
    if not names:
        return ""
    return (
        f"warning: calls to providers do not go through the proxy of {', '.join(names)}. Remedy, if they must: "
        f"set FLEET_SDK_VARIABLES={','.join(names)}"
    )


def _is_of_sdks(name: str) -> bool:
    return bool(_OF_SDKS.fullmatch(name) or _PROXIES.fullmatch(name))
