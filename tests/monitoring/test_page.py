"""The control process's page in a real browser, of a real fleet."""

import asyncio
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from fleet.control.web.credentials import PageCredentials
from tests.fleet import Fleet, json_of, running_fleet
from tests.loopback import answers
from tests.monitoring.browser import Browser, browsing
from tests.ports import free_port_base
from tests.waiting import wait_for

pytestmark = pytest.mark.debian

TOKEN = "a-token-of-the-test"
EVIL = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
MANY = 1000


@pytest.fixture(scope="module")
def operable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with a thousand pipelines that wait for their hour, and one that completed."""
    environment = {"FLEET_CONTROL_TOKEN": TOKEN}
    with running_fleet(tmp_path_factory.mktemp("page") / "state", environment) as running:
        asyncio.run(_start_many(running))
        done = running.fleet("run", EVIL, "--project", "seo-demo", "--json")
        assert json_of(done.stdout)["status"] == "completed"
        yield running


async def _start_many(fleet: Fleet) -> None:
    client = await fleet.client()
    at_once = asyncio.Semaphore(20)

    async def start() -> None:
        async with at_once:
            await client.start_workflow(
                WORKFLOW_TYPE,
                args=["Kávovar", "seo-demo", "", ""],
                id=f"waits-{uuid.uuid4().hex[:10]}",
                task_queue=PIPELINE_QUEUE,
                start_delay=timedelta(hours=1),
            )

    await asyncio.gather(*(start() for _ in range(MANY)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture
def page(operable: Fleet, browser: Browser) -> Browser:
    browser.size(1280, 900)
    browser.run("try { sessionStorage.clear() } catch (nothing) {}")
    browser.driver.get("about:blank")
    browser.open(link_of(operable))
    browser.complaints()
    return browser


def link_of(fleet: Fleet) -> str:
    """A new link to its page."""
    asked = fleet.fleet("page")
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.strip()


def test_the_link_of_fleet_up_logs_in_once_and_a_logout_ends_it(operable: Fleet, browser: Browser) -> None:
    address = f"http://127.0.0.1:{operable.port_base + 4}/"
    browser.driver.get(address)
    assert "fleet page" in browser.text("main") and not browser.all("#overview")
    printed = re.search(rf"^page +({address}login\?code=\w+)$", operable.said, re.MULTILINE)
    assert printed, operable.said
    browser.open(printed[1])
    assert browser.driver.current_url == address, "the code is in no bookmark"
    assert browser.run("return document.cookie") == "", "no script reads the session"
    browser.driver.refresh()
    browser.wait("the session goes on", lambda: browser.run("return document.body.dataset.live") == "1")
    browser.one("[data-slot=logout] button").click()
    browser.wait("it is logged out", lambda: browser.all("body.login form"))
    browser.driver.get(printed[1])
    assert "used already" in browser.text("[role=alert]")
    browser.one("input[name=token]").send_keys("a-wrong-token-altogether", Keys.ENTER)
    browser.wait("it is refused", lambda: "refused" in browser.text("[role=alert]"))
    browser.one("input[name=token]").send_keys(TOKEN, Keys.ENTER)
    browser.wait("the token logs in", lambda: browser.run("return document.body.dataset.live") == "1")
    for session in (operable.state / "page" / "sessions").iterdir():
        session.unlink()
    browser.wait("the open page is left when its session ends", lambda: browser.all("body.login form"))


def test_a_glance_tells_that_all_is_well_and_what_today_cost(page: Browser) -> None:
    page.wait("all is well", lambda: page.run("return document.querySelector('.verdict').dataset.tone") == "good")
    assert {card.get_attribute("data-provider") for card in page.all(".card")} == {"openai", "anthropic", "gemini"}
    cost = "#glance [data-slot=costMore]"
    page.wait("what was counted is read", lambda: re.fullmatch(r"and \$\d+\.\d+ simulated", page.text(cost)))
    assert page.text("#glance [data-slot=costValue]") == "$0.00", "nothing is paid"
    assert page.run("return performance.getEntriesByName('first-live-state').length") == 1
    assert page.complaints() == []


def test_a_thousand_pipelines_are_listed_and_found(page: Browser) -> None:
    page.wait("they are listed", lambda: len(page.all("#running tbody tr")) == MANY)
    running = "#glance [data-slot=runningValue]"
    page.wait("they are counted", lambda: page.text(running).replace(",", "") == str(MANY))
    workflow = page.all("#running tbody tr")[700].get_attribute("data-workflow")
    page.one("#filter").send_keys(str(workflow))
    shown = "return [...document.querySelectorAll('#running tbody tr')].filter(row => !row.hidden).length"
    page.wait("one is left", lambda: page.run(shown) == 1)


def test_a_pipeline_opens_by_keyboard_and_its_outputs_are_text(page: Browser) -> None:
    page.wait("it is listed", lambda: page.all("#ended tbody tr"))
    page.run("document.querySelector('#ended tbody tr a').focus()")
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait("its stages are there", lambda: len(page.all(".stages tr[data-stage]")) == 8)
    assert {row.get_attribute("data-state") for row in page.all(".stages tr[data-stage]")} == {"done"}
    kinds = {span.get_attribute("data-kind") for span in page.all(".timeline .span")}
    assert kinds == {"waiting", "running"}
    costs = page.text(".stages tr[data-stage] td[data-slot=cost]").splitlines()
    assert len(costs) == 8 and all(re.fullmatch(r"\$\d+\.\d+ simulated", cost) for cost in costs)
    assert page.text("#pipeline .figures [data-slot=cost]") == "$0.00", "nothing is paid"
    assert page.text("#pipeline .figures [data-slot=costMore]").endswith(" simulated")
    assert EVIL in page.text("details.output pre") and EVIL in page.text("#pipeline-title")
    assert page.run("return window.hacked") is None and page.all("#pipeline img, #pipeline pre script") == []
    page.driver.back()
    page.wait("the overview is back", lambda: not page.run("return document.getElementById('overview').hidden"))
    assert page.complaints() == []


def test_who_is_in_trouble_comes_first_and_is_named(operable: Fleet, page: Browser) -> None:
    operable.simulator.fault("gemini", "401", count=5)
    operable.backend("UPDATE ApiKey SET api_key = 'sim-gemini-another' WHERE provider = 'gemini'")
    try:
        operable.fleet("run", "Kávovar", "--project", "seo-demo", "--no-wait")
        card = ".card[data-provider=gemini]"
        page.wait("it is parked", lambda: page.all(f"{card}[data-breaker=parked]"))
        assert page.all(".card")[0].get_attribute("data-provider") == "gemini"
        page.wait("it is a problem", lambda: "llm-gemini is parked" in page.text(".problems li"))
        assert "parked" in page.text(f"{card} [data-slot=word]").lower()
        assert page.run("return document.querySelector('.verdict').dataset.tone") == "bad"
        page.wait("errors are told", lambda: "gemini" in page.text("#errors tbody tr"))
    finally:
        httpx.delete(f"{operable.simulator.base_url}/faults", trust_env=False, verify=False)
        assert operable.fleet("resume", "gemini").returncode == 0
    page.wait("all is well again", lambda: page.all(f"{card}[data-breaker=closed]"))


def test_orders_are_confirmed_and_take_the_token(operable: Fleet, page: Browser) -> None:
    def press(selector: str) -> None:
        page.run("document.querySelector(arguments[0]).click()", selector)

    press(".card[data-provider=openai] button[data-act=pause]")
    page.wait("it asks", lambda: page.all("dialog#confirm[open]"))
    press("dialog#confirm .strong")
    page.wait("it asks for the token", lambda: page.all("dialog#token[open]"))
    page.one("dialog#token input[name=token]").send_keys("a-wrong-token-altogether", Keys.ENTER)
    page.wait("it asks again", lambda: page.run("return document.querySelector('dialog#token input').value") == "")
    assert operable.budget("openai", "closed")
    page.wait("it is there", lambda: page.all("dialog#token[open]"))
    page.one("dialog#token input[name=token]").send_keys(TOKEN, Keys.ENTER)
    page.wait("it is paused", lambda: operable.budget("openai", "paused"))
    page.wait("the page shows it", lambda: page.all(".card[data-provider=openai][data-breaker=paused]"))
    resume = ".card[data-provider=openai] button[data-act=resume]"
    page.wait("the order is answered, too", lambda: page.all(f"{resume}:not([aria-disabled=true])"))
    press(resume)
    page.wait("it asks", lambda: page.all("dialog#confirm[open]"))
    press("dialog#confirm .strong")
    page.wait("it is open", lambda: operable.budget("openai", "closed"))
    page.wait("it is said", lambda: page.all(".operation[data-standing=done]"))


def test_another_machine_is_listed_once_a_budget_has_heard_of_it(operable: Fleet, page: Browser) -> None:
    page.wait("the state is there", lambda: page.run("return document.body.dataset.live") == "1")
    assert page.run("return document.getElementById('machines').hidden"), "there is no other one yet"
    host = f"{EVIL}-with-a-name-that-is-far-too-long-for-a-phone"
    told = json.dumps({"process": f"openai_00@{host}+bbbbbbbbbbbb", "sent_at": time.time()})
    signal = ("--workflow-id", "budget-llm-openai", "--name", "report", "--input", told)
    sent = operable.temporal("workflow", "signal", *signal)
    assert sent.returncode == 0, sent.stderr
    page.wait("it is listed", lambda: page.all("#machines tbody tr[data-state=ok]"))
    assert page.text("#machines tbody th") == host
    assert "it has told no address" in page.text("#machines [data-slot=machineNotes]")
    assert page.run("return window.hacked") is None and page.complaints() == []


@pytest.mark.parametrize(("width", "dark"), [(360, False), (390, True), (1280, True)])
def test_no_page_is_wider_than_its_screen(page: Browser, width: int, dark: bool) -> None:
    page.size(width, 800, dark=dark)
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.complaints() == []


@contextmanager
def control_without_token(fleet: Fleet) -> Iterator[str]:
    """The address of one more control process of a fleet, which nobody may operate."""
    port = free_port_base()
    environment = fleet.variables | {
        "API_BASE_URL": f"http://127.0.0.1:{fleet.port_base + 2}",
        "TEMPORAL_HOST": f"127.0.0.1:{fleet.port_base}",
        "FLEET_CONTROL_PORT": str(port),
    }
    del environment["FLEET_CONTROL_TOKEN"]
    control = subprocess.Popen([sys.executable, "-P", "-m", "workers.control"], env=environment)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        control.terminate()
        control.wait(30)


def test_without_a_token_the_page_is_for_reading(operable: Fleet, browser: Browser) -> None:
    with control_without_token(operable) as address:
        wait_for("it answers", lambda: answers(f"{address}/ready"))
        code = PageCredentials(operable.state / "page").links.issue()
        browser.open(f"{address}/login?code={code}")
        assert not any(button.is_displayed() for button in browser.all("button[data-act]"))
        order = {"action": "pause", "provider": "openai"}
        assert httpx.post(f"{address}/api/act", json=order, trust_env=False, verify=False).status_code == 403


REFUSED = [
    ({}, {"action": "pause", "provider": "openai"}, 401),
    ({"authorization": "Bearer wrong"}, {"action": "pause", "provider": "openai"}, 401),
    ({"authorization": f"Bearer {TOKEN}"}, {"action": "destroy"}, 400),
    ({"authorization": f"Bearer {TOKEN}"}, ["pause"], 400),
    ({"authorization": f"Bearer {TOKEN}"}, {"action": "scale", "program": "openai", "count": "4"}, 400),
    ({"authorization": f"Bearer {TOKEN}"}, {"action": "scale", "program": "--help", "count": 4}, 400),
    ({"authorization": f"Bearer {TOKEN}"}, {"action": "scale", "program": "nobody", "count": 4}, 409),
    ({"authorization": f"Bearer {TOKEN}"}, {"action": "pause", "provider": "nobody"}, 409),
]


@pytest.mark.parametrize(("headers", "order", "status"), REFUSED)
def test_a_wrong_order_is_refused_with_a_reason(
    operable: Fleet, headers: dict[str, str], order: object, status: int
) -> None:
    act = f"http://127.0.0.1:{operable.port_base + 4}/api/act"
    answer = httpx.post(act, json=order, headers=headers, trust_env=False, verify=False)
    assert answer.status_code == status and answer.json()["error"]


def test_a_program_is_scaled_from_the_page(operable: Fleet) -> None:
    act = f"http://127.0.0.1:{operable.port_base + 4}/api/act"
    for count in (2, 1):
        order = {"action": "scale", "program": "openai", "count": count}
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(act, json=order, headers=headers, trust_env=False, verify=False, timeout=120)
        assert answer.status_code == 200, answer.text
        processes = [process for process in operable.status()["processes"] if process["program"] == "openai"]
        assert len(processes) == count


def test_only_who_means_this_machine_is_answered(operable: Fleet) -> None:
    address = f"http://127.0.0.1:{operable.port_base + 4}/"
    refused = httpx.get(address, headers={"host": "evil.example"}, trust_env=False, verify=False)
    assert refused.status_code == 403 and "ssh -L" in refused.json()["error"]
    answer = operable.control("")
    assert answer.status_code == 200 and "script-src 'self'" in answer.headers["content-security-policy"]
