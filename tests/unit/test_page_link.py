"""``fleet page``: the link that it prints, and what it says where there can be none."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from fleet.cli.page import page_link, refuse_no_page
from fleet.cli.top import Watched
from fleet.config import Settings, load_settings
from fleet.control.health.observer import Observer
from fleet.control.web.app import Views, create_app
from fleet.control.web.credentials import PageCredentials
from fleet.control.web.streams import Pictures
from fleet.errors import OperationError


def settings(state: Path, **more: Any) -> Settings:
    return load_settings(api_base_url="http://localhost:1", state_dir=state, **more)


@pytest.mark.parametrize(
    ("host", "start"),
    [
        ("127.0.0.1", "http://127.0.0.1:8020/login?code="),
        ("localhost", "http://localhost:8020/login?code="),
        ("0.0.0.0", "http://127.0.0.1:8020/login?code="),
        ("", "http://127.0.0.1:8020/login?code="),
        ("::", "http://[::1]:8020/login?code="),
        ("::1", "http://[::1]:8020/login?code="),
    ],
)
def test_the_link_leads_to_this_machine_and_its_code_is_new_each_time(
    tmp_path: Path, host: str, start: str
) -> None:
    found = settings(tmp_path, control_host=host)
    first, second = page_link(found), page_link(found)
    assert first.startswith(start) and second.startswith(start) and first != second
    links = PageCredentials.of(found).links
    assert links.take(first.removeprefix(start)) and links.take(second.removeprefix(start))


def test_where_reading_needs_no_login_the_link_is_the_address(tmp_path: Path) -> None:
    assert page_link(settings(tmp_path, control_open_reads=True)) == "http://127.0.0.1:8020/"
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("host", ["10.0.0.7", "vm7.example", "127.0.0.2"])
def test_where_the_page_answers_nobody_there_is_no_link(tmp_path: Path, host: str) -> None:
    with pytest.raises(OperationError, match=r"FLEET_CONTROL_HOST to 127\.0\.0\.1"):
        page_link(settings(tmp_path, control_host=host))


def test_another_user_gets_no_link_and_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("not a folder", "utf-8")
    with pytest.raises(OperationError, match="the fleet's user and with its FLEET_STATE_DIR"):
        page_link(settings(tmp_path))


def test_without_a_control_process_the_command_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    with pytest.raises(OperationError, match=rf"http://127\.0\.0\.1:{port} does not answer"):
        refuse_no_page(settings(tmp_path, control_port=port))


def test_top_reads_with_the_token_of_the_state_folder(tmp_path: Path) -> None:
    found = settings(tmp_path)
    pictures = Pictures(found, Observer(found), state='{"at":0}', painted_at=time.time() + 3600)
    app = create_app(Views(found, pictures.observer, pictures))
    watched = Watched(found)
    watched._http = TestClient(app, base_url=watched.address, client=("127.0.0.1", 50_000))
    assert watched.look()["at"] == 0
    (tmp_path / "page" / "token").write_text("f" * 64, "ascii")
    with pytest.raises(OperationError, match=r"refuses the token in .* `fleet roll control`"):
        watched.look()
