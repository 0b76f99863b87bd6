"""Who may read what from the control process, and how somebody shows that he may."""

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message

from fleet.budgets.messages import BudgetStatus, HeldModel
from fleet.config import Settings
from fleet.control.health.observer import Observer
from fleet.control.health.status import FleetStatus, QueueStatus, Reachable
from fleet.control.machines.ask_machines import told_by
from fleet.control.machines.other_machines import OtherMachine
from fleet.control.supervision.supervisord_client import ProcessStatus
from fleet.control.web import credentials as credentials_module
from fleet.control.web.access import ACCESS, Access, access_to
from fleet.control.web.app import Views, create_app
from fleet.control.web.credentials import LINK_SECONDS, SESSION_SECONDS, IssuedSecrets, PageCredentials
from fleet.control.web.login_throttle import LoginThrottle
from fleet.control.web.streams import Pictures
from fleet.execution.backend_client import ToldProject
from fleet.process.atomic_file import write_atomically

ELSEWHERE = ("192.0.2.7", 50_000)
HERE = ("127.0.0.1", 50_000)
TOKEN = "a-token-of-the-test"
FORM = {"content-type": "application/x-www-form-urlencoded"}
READ = sorted(path for path, access in ACCESS.items() if access is Access.READ)


class World:
    """The application of a control process, and what it counts."""

    def __init__(self, state: Path, **settings: Any) -> None:
        (state / "logs").mkdir(exist_ok=True)
        self.settings = Settings(
            API_BASE_URL="http://127.0.0.1:9",
            TEMPORAL_HOST="127.0.0.1:9",
            state_dir=state,
            control_allowed_hosts="vm-7",
            **settings,
        )
        self.credentials = PageCredentials.of(self.settings)
        self.counted: list[str] = []
        observer = Observer(self.settings)
        self.pictures = Pictures(self.settings, observer, state='{"at":0}', painted_at=time.time() + 3600)
        self.app = create_app(Views(self.settings, observer, self.pictures, self.counted.append))

    def browser(
        self, address: tuple[str, int] = HERE, host: str = "localhost:8020", token: str = ""
    ) -> TestClient:
        found = TestClient(self.app, base_url=f"http://{host}", client=address, follow_redirects=False)
        if token:
            found.headers["authorization"] = f"Bearer {token}"
        return found

    def link(self) -> str:
        return f"/login?code={self.credentials.links.issue()}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@contextmanager
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="INFO", format="{message}")
    try:
        yield lines
    finally:
        logger.remove(sink)


def routed(app: Any) -> set[str]:
    while not isinstance(app, Starlette):
        app = app._app
    return {route.path for route in app.routes}


def test_the_table_has_every_path_and_no_other(world: World) -> None:
    assert routed(world.app) == set(ACCESS)
    assert access_to("/page/page.js") is Access.HERE and access_to("/pages") is Access.READ
    assert {path for path, access in ACCESS.items() if access is Access.OPEN} == {"/health", "/ready", "/status"}
    assert {path for path, access in ACCESS.items() if access is Access.PUBLIC} == {"/metrics"}


@pytest.mark.parametrize("path", [*READ, "/something-added-later", "/api/state/", "/status/"])
def test_nothing_is_read_without_a_credential(world: World, path: str) -> None:
    answer = world.browser().get(path)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert "fleet page" in answer.text


def test_the_token_of_the_state_folder_reads_and_does_not_operate(tmp_path: Path) -> None:
    world = World(tmp_path, control_token=TOKEN)
    reader = world.browser(token=world.credentials.token())
    assert reader.get("/api/state").json() == {"at": 0} and reader.get("/").status_code == 200
    assert reader.post("/api/act", json={"action": "roll"}).status_code == 401


def test_the_token_of_the_operator_reads_and_operates(tmp_path: Path) -> None:
    operator = World(tmp_path, control_token=TOKEN).browser(token=TOKEN)
    assert operator.get("/api/state").status_code == 200
    assert operator.post("/api/act", json={"action": "nothing"}).status_code == 400


def test_the_token_is_a_file_of_the_user_alone(tmp_path: Path) -> None:
    credentials = PageCredentials(tmp_path / "state" / "page")
    assert credentials.token() == ""
    made = credentials.made_token()
    assert re.fullmatch(r"[0-9a-f]{64}", made) and credentials.made_token() == credentials.token() == made
    assert (credentials.folder / "token").stat().st_mode & 0o777 == 0o600
    assert credentials.folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in credentials.folder.iterdir()] == ["token"], "no draft is left"


DAMAGED = {
    "empty": b"",
    "zeros": b"\0" * 65,
    "short": b"ab" * 31,
    "long": b"ab" * 33,
    "no digits": b"Z" * 64,
    "not ASCII": b"\xff" * 64,
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_token_is_replaced_and_the_replacement_logged(tmp_path: Path, damaged: bytes) -> None:
    credentials = PageCredentials(tmp_path / "page")
    credentials.folder.mkdir()
    (credentials.folder / "token").write_bytes(damaged)
    (credentials.folder / ".token.4711").write_text("of a process that was killed", "utf-8")
    assert credentials.token() == ""
    with logged() as lines:
        made = credentials.made_token()
    assert len(lines) == 1 and "was damaged and is replaced" in lines[0] and made not in lines[0]
    assert re.fullmatch(r"[0-9a-f]{64}", made) and credentials.made_token() == credentials.token() == made
    assert (credentials.folder / "token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in credentials.folder.iterdir()] == ["token"], "no draft is left"


@pytest.mark.parametrize("damaged", [None, b""], ids=["none", "empty"])
def test_all_that_start_at_the_same_time_have_the_same_token(
    tmp_path: Path, damaged: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opens the lock anew, so threads exclude each other as processes do."""

    def write_slowly(path: Path, text: str, *, mode: int) -> None:
        time.sleep(0.05)  # long enough for all others to find no token
        write_atomically(path, text, mode=mode)

    monkeypatch.setattr(credentials_module, "write_atomically", write_slowly)
    folder = tmp_path / "page"
    if damaged is not None:
        folder.mkdir()
        (folder / "token").write_bytes(damaged)
    at_once = threading.Barrier(16)

    def make(_: int) -> str:
        at_once.wait()
        return PageCredentials(folder).made_token()

    with ThreadPoolExecutor(16) as threads:
        made = set(threads.map(make, range(16)))
    assert made == {PageCredentials(folder).token()}


def test_without_a_writable_folder_nobody_is_let_in_by_an_empty_token(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("not a folder", "utf-8")
    world = World(tmp_path)
    assert world.credentials.token() == ""
    assert world.browser(token=" ").get("/api/state").status_code == 401
    assert world.browser().post("/login", content="token=", headers=FORM).status_code == 401


def test_a_link_logs_one_browser_in_once(world: World) -> None:
    link, first, second = world.link(), world.browser(), world.browser()
    answer = first.get(link)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={SESSION_SECONDS}"} <= set(attributes)
    assert first.get("/").status_code == 200 and first.get("/api/state").json() == {"at": 0}
    again = second.get(link)
    assert again.status_code == 401 and "used already" in again.text and "set-cookie" not in again.headers
    assert second.get("/").status_code == 401
    assert world.counted == ["link", "refused"]


def test_of_many_browsers_at_the_same_time_a_link_lets_in_one(world: World) -> None:
    code = world.credentials.links.issue()
    taken: list[bool] = []
    at_once = threading.Barrier(8)

    def take() -> None:
        at_once.wait()
        taken.append(world.credentials.links.take(code))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True]


def test_a_program_that_only_looks_at_a_link_does_not_use_it_up(world: World) -> None:
    link = world.link()
    assert world.browser().head(link).status_code == 200
    assert world.browser().get(link).status_code == 303


def test_an_old_link_and_an_old_session_are_worth_nothing(world: World) -> None:
    browser, link = world.browser(), world.link()
    assert browser.get(world.link()).status_code == 303
    for folder, seconds in (
        (world.credentials.links.folder, LINK_SECONDS),
        (world.credentials.sessions.folder, SESSION_SECONDS),
    ):
        for path in folder.iterdir():
            past = time.time() - seconds - 1
            os.utime(path, (past, past))
    assert world.browser().get(link).status_code == 401
    assert browser.get("/api/state").status_code == 401


def test_secrets_are_kept_as_digests_alone(world: World) -> None:
    browser = world.browser()
    link = world.link()
    browser.get(link)
    world.credentials.links.issue()
    cookie = dict(browser.cookies)["fleet_session_8020"]
    kept = [path for path in world.credentials.folder.rglob("*") if path.is_file() and path.name != "token"]
    assert len(kept) == 2
    for path in kept:
        assert cookie not in str(path) and path.stat().st_size == 0 and path.stat().st_mode & 0o777 == 0o600


def test_the_number_of_links_and_sessions_is_bounded(tmp_path: Path) -> None:
    kept = IssuedSecrets(tmp_path / "kept", 60, 3)
    issued = []
    for age in range(5, 0, -1):
        issued.append(kept.issue())
        made = time.time() - age
        newest = max(kept.folder.iterdir(), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (made, made))
    assert [kept.is_valid(secret) for secret in issued] == [False, False, True, True, True]


def test_a_session_outlives_the_control_process(tmp_path: Path) -> None:
    browser = World(tmp_path).browser()
    assert browser.get(World(tmp_path).link()).status_code == 303
    after = World(tmp_path).browser()
    after.cookies.update(browser.cookies)
    assert after.get("/api/state").status_code == 200


def test_a_token_in_the_form_logs_in(tmp_path: Path) -> None:
    world = World(tmp_path, control_token="hodně-tajné-heslo +&=")
    for token in (world.credentials.token(), "hodně-tajné-heslo +&="):
        browser = world.browser()
        answer = browser.post("/login", data={"token": f" {token}\n"})
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        assert browser.get("/api/state").status_code == 200
    assert world.counted == ["token", "token"]


def test_a_logout_ends_the_session_everywhere(world: World) -> None:
    browser = world.browser()
    browser.get(world.link())
    copy = world.browser()
    copy.cookies.update(browser.cookies)
    answer = browser.post("/logout")
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert 'fleet_session_8020=""' in answer.headers["set-cookie"]
    assert copy.get("/api/state").status_code == 401


FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "http://localhost:9999"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site", "origin": "http://localhost:8020"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_a_foreign_page_logs_nobody_in_or_out(world: World, path: str, headers: dict[str, str]) -> None:
    browser = world.browser()
    browser.get(world.link())
    answer = browser.post(path, data={"token": world.credentials.token()}, headers=headers)
    assert answer.status_code == 403 and "set-cookie" not in answer.headers
    assert browser.get("/api/state").status_code == 200


@pytest.mark.parametrize("query", ["next=//evil.example", "next=https://evil.example", "url=//evil.example"])
def test_a_login_leads_to_the_page_and_nowhere_else(world: World, query: str) -> None:
    assert world.browser().get(f"{world.link()}&{query}").headers["location"] == "/"
    body = {"token": world.credentials.token()}
    assert world.browser().post(f"/login?{query}", data=body).headers["location"] == "/"


def test_a_link_that_a_foreign_page_shows_works_too(world: World) -> None:
    """The browser withholds the new cookie from the request that a foreign page began."""
    answer = world.browser().get("/", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200 and 'content="0;url=/"' in answer.text
    assert world.browser().get("/", headers={"sec-fetch-site": "same-origin"}).status_code == 401


def test_the_login_page_needs_no_script_and_may_send_its_form_to_itself_alone(world: World) -> None:
    answer = world.browser().get("/")
    assert "<script" not in answer.text and "form-action 'self'" in answer.headers["content-security-policy"]
    # Under no-referrer, a browser says "null" where it should say where the form comes from.
    assert answer.headers["referrer-policy"] == "same-origin" and answer.headers["cache-control"] == "no-store"
    assert answer.text.count("fleet page") == 1


@pytest.mark.parametrize("path", ["/login", "/logout", "/login?code=x"])
def test_the_login_is_for_this_machine_alone(world: World, path: str) -> None:
    method = "GET" if "code" in path else "POST"
    assert world.browser(ELSEWHERE).request(method, path).status_code == 403
    assert world.browser(host="evil.example").request(method, path).status_code == 403
    forwarded = {"x-forwarded-for": "127.0.0.1"}
    assert world.browser().request(method, path, headers=forwarded).status_code == 403


def test_two_fleets_of_a_host_have_cookies_of_their_own(world: World) -> None:
    answer = world.browser(host="127.0.0.1:8024").get(world.link())
    assert answer.headers["set-cookie"].startswith("fleet_session_8024=")


def test_a_large_form_is_not_read(world: World) -> None:
    answer = world.browser().post("/login", content=b"token=" + b"x" * 1_000_000, headers=FORM)
    assert answer.status_code == 401


def test_with_open_reads_this_machine_reads_without_a_login_and_others_do_not(tmp_path: Path) -> None:
    world = World(tmp_path, control_open_reads=True)
    assert world.browser().get("/api/state").status_code == 200 and world.browser().get("/").status_code == 200
    assert "address" in world.browser().get("/status").json()["temporal"]
    assert world.browser(ELSEWHERE).get("/api/state").status_code == 403
    assert "address" not in world.browser(ELSEWHERE, "vm-7:8020").get("/status").json()["temporal"]
    assert world.browser().post("/api/act", json={"action": "roll"}).status_code == 403


def test_strangers_learn_states_and_counts_and_who_may_read_learns_all(world: World) -> None:
    for stranger in (world.browser(), world.browser(ELSEWHERE, "vm-7:8020"), world.browser(token="wrong")):
        for path in ("/status", "/health", "/ready"):
            told = stranger.get(path).text
            assert "127.0.0.1" not in told and "Remedy" not in told and str(os.getpid()) not in told
        found = stranger.get("/status").json()
        assert found["temporal"] == {"ok": False} and "Temporal does not answer" in found["problems"]
    for whole in (
        world.browser(token=world.credentials.token()),
        world.browser(ELSEWHERE, "vm-7", world.credentials.token()),
    ):
        assert whole.get("/status").json()["temporal"]["address"] == "127.0.0.1:9"
        assert any("127.0.0.1:9" in problem for problem in whole.get("/health").json()["problems"])


def test_strangers_are_told_enough_for_other_machines_and_neither_addresses_nor_errors() -> None:
    private = "http://10.9.8.7:1 Kávovar Remedy: pay"
    held = [HeldModel("m-1", time.time() + 60, private)]
    budget = BudgetStatus("llm-gemini", 1.0, "parked", private, True, 1, 1, 0, held_models=held)
    status = FleetStatus(
        Reachable("10.9.8.7:7233", ok=False, problem=private),
        Reachable("http://10.9.8.7:1", ok=True, projects={"mine": ToldProject("ab12", [private])}),
        [ProcessStatus("openai", "openai_00", "FATAL", 4242, 17, private)],
        [QueueStatus("llm-openai", 0, 3, 1.5)],
        private,
        {"llm-gemini": budget},
        [private],
        machines=[OtherMachine("vm2", "bbbb", control_url="http://10.9.8.7:8020")],
        machine="vm1+aaaa",
        version="1.2.3",
    )
    public = json.dumps(status.to_public_json(), ensure_ascii=False) + str(status.public_not_ready())
    assert not re.search(r"10\.9|4242|Kávovar|Remedy|pay|vm2", public), public
    told_publicly = status.to_public_json()
    assert (told_publicly["machine_count"], told_publicly["notice_count"]) == (1, 0)
    whole = status.to_json()
    same = told_publicly.keys() & whole.keys()
    assert all(isinstance(told_publicly[name], type(whole[name])) for name in same), "one name, one type"
    assert len(status.public_problems()) == len(status.problems()) == 8
    told = told_by(json.dumps(status.to_public_json()).encode(), "vm1+aaaa")
    assert (told.version, told.uptime_seconds, told.processes) == ("1.2.3", 17, {"openai_00": "FATAL"})
    assert told.problems == status.public_problems() and told.projects == {"mine": "ab12"}
    assert {"llm-gemini is parked", "openai_00 is FATAL", "nobody polls the queue llm-openai"} <= set(
        told.problems
    )


def test_metrics_are_for_everybody_and_name_no_address(world: World) -> None:
    answer = world.browser(ELSEWHERE, "vm-7:8020").get("/metrics")
    assert answer.status_code == 200 and 'fleet_server_up{server="temporal"} 0.0' in answer.text
    assert "127.0.0.1" not in answer.text and str(os.getpid()) not in answer.text


def test_a_guesser_is_slowed_and_whoever_has_a_link_or_the_token_of_the_folder_is_not(tmp_path: Path) -> None:
    world = World(tmp_path, control_token=TOKEN)
    with logged() as lines:
        answers = [world.browser().post("/login", data={"token": f"guess-{number}"}) for number in range(20)]
        answers += [world.browser(token=f"guess-{number}").get("/api/state") for number in range(20)]
    assert {answer.status_code for answer in answers[:5]} == {401}
    assert {answer.status_code for answer in answers[5:]} == {429}
    assert all(0 < int(answer.headers["retry-after"]) <= 3 for answer in answers[5:])
    assert world.counted == ["refused"] * 5 + ["slowed"] * 35
    assert len([line for line in lines if "LOGIN REFUSED" in line]) == 1 and "guess" not in "".join(lines)
    assert world.browser(token=TOKEN).get("/api/state").status_code == 429, "it is short enough to be guessed"
    assert world.browser(token=world.credentials.token()).get("/api/state").status_code == 200
    browser = world.browser()
    assert browser.get(world.link()).status_code == 303 and browser.get("/").status_code == 200


def order(client: TestClient, token: str) -> int:
    """The status of an order that is carried out nowhere: 400 for the operator."""
    headers = {"authorization": f"Bearer {token}"}
    return client.post("/api/act", json={"action": "nothing"}, headers=headers).status_code


def test_another_user_who_guesses_all_the_time_does_not_keep_the_page_of_the_operator_from_operating(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, control_token=TOKEN)
    guesser, operator, reader = world.browser(), world.browser(), world.browser()
    for logged_in in (operator, reader):
        assert logged_in.get(world.link()).status_code == 303
    for number in range(20):
        assert order(guesser, f"guess-{number}") == (401 if number < 5 else 429)
        assert order(operator, TOKEN) == 400
    assert [order(reader, f"guess-{number}") for number in range(7)] == [401] * 5 + [429] * 2
    assert order(reader, TOKEN) == 429, "a session is bounded too"
    assert order(operator, TOKEN) == 400, "and keeps no other one out"
    forged = {"cookie": "fleet_session_8020=" + "0" * 64}
    assert world.browser(token=TOKEN).get("/api/state", headers=forged).status_code == 429


def test_a_token_that_is_too_long_to_be_guessed_is_accepted_however_many_wrong_ones_came(tmp_path: Path) -> None:
    long = "an-unguessable-token-of-32-bytes"
    world = World(tmp_path, control_token=long)
    with logged() as lines:
        for number in range(20):
            order(world.browser(), f"{long[:-2]}{number:02}")
    assert order(world.browser(), long) == 400
    assert world.browser().post("/login", data={"token": long}).status_code == 303
    assert world.counted == ["refused"] * 5 + ["slowed"] * 15 + ["token"]
    assert len(lines) == 1 and "LOGIN REFUSED" in lines[0] and long[:-2] not in "".join(lines)


def test_what_is_meant_for_a_proxy_is_no_guess(tmp_path: Path) -> None:
    world = World(tmp_path, control_token=TOKEN)
    scraper = world.browser(token="of-the-proxy")
    for _ in range(10):
        assert scraper.get("/metrics").status_code == 200
        assert world.browser().get("/status", headers={"authorization": "Basic b3BlcmF0b3I6"}).status_code == 200
    assert world.counted == []
    forwarded = {"x-forwarded-for": "192.0.2.7"}
    assert "address" in world.browser(token=TOKEN).get("/status", headers=forwarded).json()["temporal"]
    for number in range(50):
        assert world.browser(token=f"guess-{number}").get("/status", headers=forwarded).status_code == 200
    assert world.counted == [], "it is no login"
    slowed = world.browser(token=TOKEN).get("/status", headers=forwarded)
    assert slowed.json()["temporal"] == {"ok": False}, "guesses are bounded all the same"
    assert world.browser(token=TOKEN).get("/api/state").status_code == 200, "they came from elsewhere"


def test_guesses_from_elsewhere_do_not_keep_this_machine_out(tmp_path: Path) -> None:
    world = World(tmp_path, control_token=TOKEN)
    for number in range(100):
        guesser = world.browser((f"192.0.2.{number}", 1), "vm-7:8020", f"guess-{number}")
        assert guesser.get("/health").status_code == 503, "monitors are answered as ever"
    sharing = world.browser(("192.0.2.200", 1), "vm-7:8020", TOKEN)
    assert sharing.get("/status").json()["temporal"] == {"ok": False}, "all of them together have a bound"
    assert "address" in world.browser(token=TOKEN).get("/status").json()["temporal"]
    assert world.browser(token=TOKEN).get("/api/state").status_code == 200


def test_a_machine_with_another_token_that_looks_at_the_status_is_no_failed_login(tmp_path: Path) -> None:
    world = World(tmp_path, control_token=TOKEN)
    with logged() as lines:
        for peer in (world.browser(ELSEWHERE, "vm-7:8020"), world.browser()):
            peer.headers["authorization"] = "Bearer the-token-of-another-machine"
            for path in ("/status", "/health", "/ready") * 5:
                assert "127.0.0.1" not in peer.get(path).text
    assert (lines, world.counted) == ([], [])
    assert order(world.browser(), TOKEN) == 400, "it takes no attempts of those who log in"
    assert order(world.browser(), "guess") == 401 and world.counted == ["refused"]


def test_an_address_waits_a_few_seconds_and_a_log_line_is_written_once_a_minute() -> None:
    now = [1000.0]
    throttle = LoginThrottle(lambda: now[0])
    with logged() as lines:
        for _ in range(5):
            assert throttle.wait_seconds("127.0.0.1") == 0
            throttle.failed("127.0.0.1", "a wrong token")
        assert throttle.wait_seconds("127.0.0.1") == pytest.approx(3) == throttle.wait_seconds("::1")
        assert throttle.wait_seconds("127.8.8.8") == pytest.approx(3), "all of it is this machine"
        assert throttle.wait_seconds("192.0.2.7") == 0
        now[0] += 3.1
        assert throttle.wait_seconds("127.0.0.1") == 0
        now[0] += 60
        throttle.failed("127.0.0.1", "a wrong token")
    assert [line.split(": ", 1)[1].strip() for line in lines] == [
        "a wrong token from this machine, 1 since the last line",
        "a wrong token from this machine, 5 since the last line",
    ]


def test_an_ipv6_network_is_one_address_and_the_memory_of_guesses_is_bounded() -> None:
    throttle = LoginThrottle(lambda: 0.0)
    for number in range(5):
        throttle.failed(f"2001:db8::{number}", "a wrong token")
    assert throttle.wait_seconds("2001:db8::ffff") > 0 and throttle.wait_seconds("2001:db8:0:1::1") == 0
    for number in range(5000):
        throttle.wait_seconds(f"10.0.{number // 250}.{number % 250}")
    assert len(throttle._by_address) == 1000


async def test_a_stream_ends_with_its_session(world: World) -> None:
    session = world.credentials.sessions.issue()
    headers = [(b"host", b"localhost:8020"), (b"cookie", f"fleet_session_8020={session}".encode())]
    headers.append((b"accept", b"text/event-stream"))
    scope = {"type": "http", "method": "GET", "path": "/api/events", "query_string": b"", "headers": headers}
    sent: asyncio.Queue[Message] = asyncio.Queue()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def refreshed() -> None:
        async with world.pictures._fresh:
            world.pictures.painted_at += 1
            world.pictures._fresh.notify_all()

    following = asyncio.create_task(world.app(scope | {"client": HERE, "scheme": "http"}, receive, sent.put))
    async with asyncio.timeout(20):
        assert (await sent.get())["status"] == 200
        assert (await sent.get())["body"].startswith(b"event: state")
        assert (await sent.get())["body"].startswith(b"event: pipelines")
        await refreshed()
        assert (await sent.get())["body"].startswith(b"event: state")
        world.credentials.sessions.take(session)
        await refreshed()
        assert await sent.get() == {"type": "http.response.body", "body": b"", "more_body": False}
        await following
    assert not world.pictures._viewers
