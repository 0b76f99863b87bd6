"""Projects of one's own in a running fleet: from the embedded backend, and from the program ``backend``."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet.config import load_settings
from fleet.devstack.simulated_settings import simulated_providers
from fleet.projects.new_project import new_project_files
from fleet.projects.write_prompt import write_files
from tests.end_with_parent import done_if_killed
from tests.fleet import BIN, OPENAI_ALONE, Fleet, json_of, running_fleet
from tests.monitoring.scrape import Scrape
from tests.ports import free_port_base
from tests.waiting import wait_for


def write(folder: Path) -> None:
    write_files(folder / "my", new_project_files(folder / "my", "openai/gpt-4o-mini"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def embedded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose embedded backend serves the folder."""
    state = tmp_path_factory.mktemp("embedded") / "state"
    with running_fleet(state, {}, "--projects", str(folder)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def served(stack: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet on a Temporal server that stands outside it, whose program ``backend`` serves a folder."""
    folder, base = tmp_path_factory.mktemp("served-projects"), free_port_base()
    write(folder)
    providers = load_settings(api_base_url="http://localhost:1").providers.values()
    environment = {
        **OPENAI_ALONE,
        "TEMPORAL_HOST": f"127.0.0.1:{stack}",
        "FLEET_PROJECTS_DIR": str(folder),
        "FLEET_PROJECTS_PORT": str(base + 2),
        "FLEET_BACKEND_TOKEN": "token-of-this-fleet",
        **simulated_providers(f"http://127.0.0.1:{stack + 3}", providers),
        "OPENAI_API_KEY": "sim-openai-key",
    }
    second = Fleet(tmp_path_factory.mktemp("served") / "state", base, environment)
    with done_if_killed([str(BIN / "fleet"), "down"], second.variables):
        up = second.fleet("up", "--detach", "--external", "--real-providers", "--port-base", str(base))
        assert up.returncode == 0, up.stderr
        try:
            yield second
        finally:
            assert second.fleet("down").returncode == 0


def test_ones_own_project_runs_and_its_result_names_the_version(embedded: Fleet, folder: Path) -> None:
    first = json_of(embedded.fleet("run", "Coffee", "--project", "my", "--json").stdout)
    assert first["status"] == "completed" and len(first["project_fingerprint"]) == 12
    assert [assistant["function_key"] for assistant in first["assistants"]] == ["brief", "draft", "review"]
    assert first["assistants"][0]["output_json"].keys() == {"title", "audience", "outline", "keywords"}
    brief = folder / "my" / "10-brief.prompt"
    text = brief.read_text("utf-8")
    brief.write_text(text.replace("a short brief", "a long brief"), "utf-8")
    second = json_of(embedded.fleet("run", "Coffee", "--project", "my", "--json").stdout)
    assert second["status"] == "completed" and second["project_fingerprint"] != first["project_fingerprint"]
    served = {"project": "my", "fingerprint": second["project_fingerprint"]}
    wait_for(
        "its version is in the metrics",
        lambda: Scrape.of(embedded).total("fleet_project_info", **served) == 1,
    )
    brief.write_text("nothing", "utf-8")
    try:
        third = json_of(embedded.fleet("run", "Coffee", "--project", "my", "--json").stdout)
        assert third["project_fingerprint"] == second["project_fingerprint"]
        status = embedded.fleet("status")
        assert (
            status.returncode == 1 and "project my: my/10-brief.prompt:1: it has no front matter" in status.stdout
        )
        (folder / "other").mkdir()
        (folder / "other" / "1-a.prompt").write_text("---\nmodel: gema/any\n---\nWrite.\n", "utf-8")
        doctor = " ".join(embedded.fleet("doctor").stdout.split())
        assert f"version {second['project_fingerprint']} stays in use: my/10-brief.prompt:1" in doctor
        assert "it cannot be used: assistant a: unknown provider 'gema'" in doctor
    finally:
        brief.write_text(text, "utf-8")
        shutil.rmtree(folder / "other", ignore_errors=True)


def test_the_samples_are_there_too_and_can_be_taken_into_a_folder(embedded: Fleet, tmp_path: Path) -> None:
    shown = embedded.fleet("project", "show", "seo-demo")
    assert shown.returncode == 0 and "critical path: research_assistant -> " in shown.stdout
    assert embedded.fleet("project", "import", "seo-demo", "--dir", str(tmp_path)).returncode == 0
    assert len(list((tmp_path / "seo-demo").glob("*.prompt"))) == 8
    (listed,) = json_of(embedded.fleet("project", "list", "--dir", str(tmp_path), "--json").stdout)["projects"]
    assert f"fingerprint {listed['fingerprint']}" in shown.stdout


def test_an_input_that_is_too_long_is_not_sent_and_runs_with_a_part_of_the_csv(
    embedded: Fleet, folder: Path, tmp_path: Path
) -> None:
    csv = tmp_path / "keywords.csv"
    csv.write_text("keyword;volume\n" + "".join(f"jak vybrat kávovar {n};{n}\n" for n in range(5000)), "utf-8")
    prompt = "---\nmodel: openai/gpt-4\nfleet.inputs: [csv]\nfleet.csv: {}\n---\nPick the best keywords.\n"
    path = folder / "large" / "10-pick.prompt"
    path.parent.mkdir()
    path.write_text(prompt.format("{rows: {first: 4000}}"), "utf-8")
    command = ("run", "Coffee", "--project", "large", "--csv", str(csv), "--json")
    try:
        before = len(embedded.simulator.ledger())
        shown = embedded.fleet("preview", "--project", "large", "--assistant", "pick", "--csv", str(csv))
        assert "warning: it would not be sent: its input has about" in shown.stdout, shown.stderr
        failed = json_of(embedded.fleet(*command).stdout)
        assert (failed["status"], failed["cost_usd"], failed["error"]["code"]) == ("failed", 0, "context_exceeded")
        assert (failed["error"]["retryable"], failed["error"]["attempts"]) == (False, 0)
        for part in ("assistant pick: its input has about", "gpt-4 has 8,192; it was not sent. Remedy: let the"):
            assert part in failed["error"]["message"]
        assert len(embedded.simulator.ledger()) == before, "nothing was sent"

        path.write_text(prompt.format("{columns: [keyword], rows: {top: 50, by: volum}}"), "utf-8")
        missing = json_of(embedded.fleet(*command).stdout)["error"]
        assert "assistant pick: the CSV has no column 'volum', the nearest is 'volume'" in missing["message"]

        path.write_text(prompt.format("{columns: [keyword], rows: {top: 50, by: volume}}"), "utf-8")
        done = json_of(embedded.fleet(*command).stdout)
        assert done["status"] == "completed"
        sent = embedded.fleet("show", done["workflow_id"], "--input", "pick").stdout
        assert "50 of 5000 rows (those with the largest volume, largest first); 1 of 2 columns: keyword." in sent
        assert "jak vybrat kávovar 4999" in sent and "kávovar 4949" not in sent and "volume |" not in sent
    finally:
        path.unlink()
        path.parent.rmdir()


def test_a_machine_without_a_backend_serves_its_folder_itself(served: Fleet) -> None:
    wait_for("supervisord knows it as running", lambda: "backend" in served.pids())
    ran = json_of(served.fleet("run", "Coffee", "--project", "my", "--json").stdout)
    assert ran["status"] == "completed"
    health = httpx.get(f"http://127.0.0.1:{served.port_base + 2}/health", trust_env=False).json()
    assert health["projects"]["my"]["problems"] == []
    key = httpx.get(f"http://127.0.0.1:{served.port_base + 2}/api-keys/openai", trust_env=False)
    assert key.status_code == 401, "keys are for the fleet alone"
    scaled = served.fleet("scale", "backend", "2")
    assert scaled.returncode == 1 and "backend" in scaled.stderr
    rolled = served.fleet("roll", "backend")
    assert rolled.returncode == 0, rolled.stderr
    wait_for("the backend answers", lambda: served.status()["backend"]["ok"])
