"""``python -m fleet.devstack.conformance BASE_URL``: checks whether an endpoint behaves as the fleet expects.

Runs the fleet's own adapters, with the unmodified SDKs, against the simulator, another mock or the real service,
and compares the results with the providers' documentation. Keys come from the environment; at a real service the
few calls that are answered are paid.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from fleet.devstack.backend.keys import key_variables, real_key
from fleet.devstack.simulator.addresses import provider_url
from fleet.errors import FleetError, ProviderError
from fleet.failures import FailureKind
from fleet.provider_settings import KINDS, Kind, ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, Provider
from fleet.providers.options import without_thinking
from fleet.providers.registry import provider_factory, spec_of
from fleet.terminal import write_line

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CALL_SECONDS = 60.0
# The minimum that OpenAI's Responses API accepts.
_FEW_TOKENS = 16
# More than any model writes.
_TOO_MANY_TOKENS = 1_000_000_000


@dataclass(frozen=True)
class Endpoint:
    """One provider's API at an address."""

    settings: ProviderSettings
    key: str
    request: LlmRequest

    @asynccontextmanager
    async def client(self, key: str | None = None) -> AsyncIterator[Provider]:
        """A client with the endpoint's key, or with another one."""
        provider = provider_factory(self.settings)(key or self.key)
        try:
            yield provider
        finally:
            await provider.close()

    async def ask(self, request: LlmRequest, key: str | None = None) -> LlmAnswer:
        """Make one call."""
        async with self.client(key) as client, asyncio.timeout(_CALL_SECONDS):
            return await client.complete(request, timeout_seconds=_CALL_SECONDS)


def _official_hosts() -> dict[str, Kind]:
    return {urlsplit(spec_of(kind).official_url).hostname or "": kind for kind in KINDS}


def endpoint(base_url: str, kind: Kind) -> Endpoint:
    """The endpoint of that kind at ``base_url``, with key and model from the environment.

    Raises:
        ValueError: no key is set for an address outside this machine.
    """
    host = urlsplit(base_url).hostname or ""
    key = real_key(kind) or ("sim-conformance-key" if host in _LOOPBACK else None)
    if key is None:
        raise ValueError(
            f"no key for {kind} at {host}. Remedy: set {key_variables(kind)[0]}; calls there are paid"
        )
    address = base_url if host in _official_hosts() else provider_url(base_url, kind, kind)
    model = os.environ.get(f"CONFORMANCE_MODEL_{kind.upper()}", spec_of(kind).example_model)
    settings = ProviderSettings(name=kind, kind=kind, base_url=address.rstrip("/"))
    request = LlmRequest(
        model=model,
        system_prompt="Answer in one sentence.",
        user_message="What is a queue?",
        temperature=0.7,
        top_p=None,
        max_tokens=2000,
        idempotency_key="conformance",
        options=without_thinking(settings, model),
    )
    return Endpoint(settings, key, request)


async def answers(at: Endpoint) -> str:
    """A call is answered with text, and its tokens are counted."""
    answer = await at.ask(at.request)
    counted = answer.input_tokens > 0 and answer.output_tokens > 0
    good = answer.text.strip() and answer.finish_reason == "stop" and counted
    return "" if good else f"text, the end `stop` and token counts were expected, not {answer}"


async def ends_at_max_tokens(at: Endpoint) -> str:
    """max_tokens bounds the answer, and the answer says so."""
    long = replace(at.request, user_message="Count from 1 to 500 in words.", max_tokens=_FEW_TOKENS)
    answer = await at.ask(long)
    good = answer.finish_reason == "length" and answer.output_tokens <= _FEW_TOKENS
    return "" if good else f"the end `length` within {_FEW_TOKENS} tokens was expected, not {answer}"


async def names_its_limits(at: Endpoint) -> str:
    """The rate limit is in the headers, if the provider sends any."""
    form = spec_of(at.settings.kind).limit_header
    if not form:
        return ""
    name = form.format(part="limit", what="requests")
    headers = (await at.ask(at.request)).headers
    return "" if headers.get(name, "").isdigit() else f"the header {name} was expected, not {sorted(headers)}"


async def _refused(at: Endpoint, request: LlmRequest, wanted: FailureKind, key: str | None = None) -> str:
    try:
        answer = await at.ask(request, key)
    except ProviderError as error:
        return "" if error.failure_kind is wanted else f"`{wanted.value}` was expected, not: {error}"
    return f"`{wanted.value}` was expected, not an answer: {answer}"


async def rejects_a_wrong_key(at: Endpoint) -> str:
    """A wrong key is distinguished from all other errors."""
    return await _refused(at, at.request, FailureKind.KEY_REJECTED, "sk-this-key-is-revoked")


async def has_no_unknown_model(at: Endpoint) -> str:
    """A model that does not exist is a 404, which is never retried."""
    return await _refused(
        at, replace(at.request, model=spec_of(at.settings.kind).unknown_model), FailureKind.NOT_FOUND
    )


async def refuses_a_bad_request(at: Endpoint) -> str:
    """A parameter out of range is a 400, which is never retried. Models that think take no temperature."""
    bad = replace(at.request, temperature=9.0, max_tokens=_TOO_MANY_TOKENS)
    return await _refused(at, bad, FailureKind.BAD_REQUEST)


Check = Callable[[Endpoint], Awaitable[str]]
CHECKS: tuple[Check, ...] = (
    answers,
    ends_at_max_tokens,
    names_its_limits,
    rejects_a_wrong_key,
    has_no_unknown_model,
    refuses_a_bad_request,
)


async def _differs(check: Check, at: Endpoint) -> str:
    """The difference from the expected result; empty if there is none."""
    try:
        return await check(at)
    except TimeoutError:
        return f"no answer within {_CALL_SECONDS:.0f} s"
    except FleetError as error:
        return str(error)


async def conformance(endpoints: Sequence[Endpoint], say: Callable[[str], None]) -> int:
    """Run all checks, with one line each; returns how many failed."""
    failed = 0
    for at in endpoints:
        for check in CHECKS:
            differs = await _differs(check, at)
            failed += bool(differs)
            name = f"{at.settings.name}: {check.__name__.replace('_', ' ')}"
            say(f"{'differs' if differs else 'ok':8} {name}{': ' + differs if differs else ''}")
    return failed


def main() -> None:
    """Read the arguments, run, exit with 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="conformance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base_url", help="e.g. http://127.0.0.1:8010 or https://api.openai.com/v1")
    parser.add_argument("providers", nargs="*", metavar="PROVIDER", help=f"of {', '.join(KINDS)}; by default all")
    options = parser.parse_args()
    host = urlsplit(options.base_url).hostname
    known = _official_hosts().get(host or "")
    if not host or not set(options.providers) <= set(KINDS):
        parser.error(f"give an address such as http://127.0.0.1:8010, and providers of {', '.join(KINDS)}")
    kinds = [kind for kind in KINDS if kind in (options.providers or ([known] if known else KINDS))]
    try:
        endpoints = [endpoint(options.base_url.rstrip("/"), kind) for kind in kinds]
    except ValueError as error:
        parser.error(str(error))
    failed = asyncio.run(conformance(endpoints, write_line))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
