"""The other machines' control processes are asked; nothing that they answer is trusted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from fleet.config import Settings, load_settings
from fleet.control.machines import ask_machines as asking
from fleet.control.machines.ask_machines import Asking, ask_machines, told_by
from fleet.control.machines.other_machines import OtherMachine, Told
from tests.serving import serving

STATUS = {
    "machine": "vm2+bbbb",
    "version": "1.3.0",
    "processes": [
        {"process": "openai_00", "state": "RUNNING", "uptime_seconds": 70},
        {"process": "control_00", "state": "RUNNING", "uptime_seconds": 500},
    ],
    "problems": ["llm-gemini is parked"],
    "of_a_later_release": {"x": 1},
}


def answer(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *more]
    return "\r\n".join([*head, "", ""]).encode() + body


@dataclass
class Neighbour:
    """A machine whose control process answers with these bytes; what it was asked."""

    address: str
    sends: bytes = b""
    silent: bool = False
    heads: list[bytes] = field(default_factory=list)

    def machine(self, url: str | None = None) -> OtherMachine:
        return OtherMachine("vm2", "bbbb", version="1.2.0", control_url=self.address if url is None else url)


@asynccontextmanager
async def neighbour(told: Any = None) -> AsyncIterator[Neighbour]:
    found = Neighbour("", answer(json.dumps(STATUS if told is None else told).encode()))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.heads.append(await reader.readuntil(b"\r\n\r\n"))
        if found.silent:
            await asyncio.Event().wait()
        writer.write(found.sends)

    async with serving(serve) as place:
        found.address = f"http://{place}"
        yield found


def settings(**more: Any) -> Settings:
    return load_settings(api_base_url="http://localhost:1", **more)


async def asked(peer: Neighbour, url: str | None = None) -> OtherMachine:
    (found,) = await ask_machines(settings(), [peer.machine(url)])
    return found


async def test_a_machine_tells_its_release_its_processes_and_its_problems() -> None:
    async with neighbour() as peer:
        found = await asked(peer)
        assert found.told == Told(
            "1.3.0", 500, {"openai_00": "RUNNING", "control_00": "RUNNING"}, ["llm-gemini is parked"]
        )
        assert found.version == "1.3.0" and found.why_not == ""
        assert peer.heads[0].startswith(b"GET /status ") and b"authorization" not in peer.heads[0].lower()


async def test_the_token_goes_along_where_there_is_one_and_never_on_to_where_one_is_sent() -> None:
    token = "a-token-öf-the-test"
    async with neighbour() as peer, neighbour() as other:
        peer.sends = answer(b"", "302 Found", f"location: {other.address}/status")
        (found,) = await ask_machines(settings(control_token=token), [peer.machine()])
        assert f"authorization: Bearer {token}".encode() in peer.heads[0]
        assert found.told is None and "it answers 302" in found.why_not and other.heads == []
        assert token not in repr(found)


async def test_the_token_is_never_sent_in_plain_text_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_HERE", ())
    async with neighbour() as peer:
        (found,) = await ask_machines(settings(control_token="a-token-of-the-test"), [peer.machine()])
        assert found.told is not None and b"authorization" not in peer.heads[0].lower()


HOSTILE = [
    (b"<html>", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 200_000, "not JSON"),
    (b"[]", "not a fleet's status"),
    (b'{"processes": 7}', "not a fleet's status"),
    (b'{"processes": [], "machine": "vm2+cccc"}', "another machine answers there: vm2+cccc"),
    (b'{"processes": [], "machine": 5}', "another machine answers there"),
    (b" " * 1_100_000, "too large"),
]


@pytest.mark.parametrize(("body", "why"), HOSTILE, ids=[why for _, why in HOSTILE])
async def test_what_is_no_status_of_that_machine_is_said_and_not_taken(body: bytes, why: str) -> None:
    async with neighbour() as peer:
        peer.sends = answer(body)
        found = await asked(peer)
    assert found.told is None and why in found.why_not and peer.address in found.why_not
    assert found.version == "1.2.0", "what the budget knows stays"


async def test_fields_of_a_wrong_type_are_left_out_and_text_is_harmless_and_short() -> None:
    evil = {
        "version": "1\x1b[31m" + "x" * 10_000,
        "processes": [
            7,
            {},
            {"process": "a\nb", "state": None, "uptime_seconds": True},
            *({"process": f"p{number}", "uptime_seconds": -1} for number in range(1000)),
        ],
        "problems": [5, *["y" * 1000] * 100],
    }
    async with neighbour(evil) as peer:
        told = (await asked(peer)).told
    assert told is not None and told.uptime_seconds is None
    assert "\x1b" not in told.version and len(told.version) < 400
    assert told.processes["a\\nb"] == "" and len(told.processes) < 200
    assert len(told.problems) == 20 and told.problems[:2] == ["", "y" * 300]


@pytest.mark.parametrize("sends", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
async def test_an_answer_that_is_cut_off_or_no_http_is_said(sends: bytes) -> None:
    async with neighbour() as peer:
        peer.sends = sends
        found = await asked(peer)
    assert found.told is None and found.why_not


async def test_one_that_keeps_silent_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_ANSWER_SECONDS", 0.5)
    async with neighbour() as peer, neighbour() as silent:
        silent.silent = True
        well, ill = await ask_machines(settings(), [peer.machine(), silent.machine()])
    assert well.told is not None and ill.told is None and "no answer within" in ill.why_not


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[", "ftp://127.0.0.1", "nothing", "http://a b\n"])
async def test_an_address_where_nobody_can_be_asked_is_said(url: str) -> None:
    async with neighbour() as peer:
        found = await asked(peer, url)
    assert found.told is None and found.why_not


async def test_one_that_listens_on_its_loopback_address_is_not_asked() -> None:
    async with neighbour() as peer:
        found = await asked(peer, "")
        assert found.told is None and "FLEET_CONTROL_HOST" in found.why_not and peer.heads == []


async def test_those_who_look_share_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    async with neighbour() as peer:
        shared = Asking(settings())
        looks = await asyncio.gather(*(shared.told([peer.machine()]) for _ in range(5)))
        assert all(machine.told is not None and machine.version == "1.3.0" for (machine,) in looks)
        await shared.told([peer.machine()])
        assert len(peer.heads) == 1
        monkeypatch.setattr(asking, "_AGE_SECONDS", 0.0)
        peer.silent = True
        (machine,) = await shared.told([peer.machine()])
        assert machine.told is not None, "what is known is shown while it is asked again"
        assert await shared.told([]) == []


def test_a_machine_tells_the_fingerprints_of_its_projects() -> None:
    projects = {"my": {"fingerprint": "abc", "problems": []}, "wrong": 7, "none": {"fingerprint": 3}}
    status = {"processes": [], "machine": "vm+1", "backend": {"address": "b", "ok": True, "projects": projects}}
    assert told_by(json.dumps(status).encode(), "vm+1").projects == {"my": "abc", "none": ""}
    assert told_by(json.dumps(status | {"backend": None}).encode(), "vm+1").projects == {}
