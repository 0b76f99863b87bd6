"""``scripts/update.sh`` with releases whose ``fleet`` command is a fake: what it does when things go wrong."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.fake_releases import STEP_SECONDS, World
from tests.waiting import wait_for


class Updating(World):
    """``old`` is installed, and ``new`` is what the checkout is at."""

    old: str
    new: str


@pytest.fixture
def world(tmp_path: Path) -> Updating:
    world = Updating(tmp_path)
    world.begin()
    world.old = world.commit()
    (world.prefix / "current").symlink_to(world.prefix / "releases" / world.old)
    world.new = world.commit()
    return world


def test_the_new_release_is_replayed_switched_to_and_rolled(world: Updating) -> None:
    status, said = world.update()
    assert status == 0 and f"updated from {world.old} to {world.new}" in said
    assert world.current == world.new and world.calls("replay") == world.calls("roll") == [world.new]
    assert "installed already" in world.update()[1]
    assert world.calls("roll") == [world.new]


def test_what_was_wrong_before_does_not_undo_a_good_update(world: Updating) -> None:
    world.is_ill(
        "llm-openai is parked until 2026-11-25 00:00 UTC: credit spent",
        "gemini_00 has stood still for 21 s",
        "llm-gemini is only probed: it answers 503",
    )
    world.happens(
        "on_roll",
        f"echo 'llm-openai is parked: credit spent' >{world.folder}/health\n"
        f"echo 'gemini_00 has stood still for 34 s' >>{world.folder}/health",
    )
    status, said = world.update()
    assert (status, world.current) == (0, world.new), said


def test_when_only_health_stays_away_the_old_release_comes_back(world: Updating) -> None:
    health, trouble = world.folder / "health", "openai_01 has stood still for 21 s"
    world.is_ill("openai_00 has stood still for 21 s")
    world.happens("on_roll", f"if [ $release = {world.new} ]; then echo '{trouble}'; fi >{health}")
    status, said = world.update()
    assert status == 1 and f"going back to {world.old}" in said and f"back on {world.old}" in said
    assert "updated" not in said and world.current == world.old
    assert world.calls("roll") == [world.new, world.old]
    assert "going back" in world.update()[1], "it is tried again, and not taken for installed"


def test_when_a_process_does_not_come_up_the_old_release_comes_back(world: Updating) -> None:
    world.happens("on_roll", f"[ $release = {world.old} ]")
    status, said = world.update()
    assert status == 1 and world.current == world.old and f"back on {world.old}" in said


STATUS = """\
anthropic:anthropic_00           RUNNING   pid {anthropic}, uptime 0:01:00
assistants:assistants_00         {assistants}
gemini:gemini_00                 RUNNING   pid 13, uptime 0:01:00
"""


def test_going_back_renews_what_the_update_has_renewed_and_nothing_else(world: Updating) -> None:
    status = world.folder / "status"
    status.write_text(STATUS.format(anthropic=11, assistants="RUNNING   pid 12, uptime 0:01:00"), "utf-8")
    half = STATUS.format(anthropic=21, assistants="FATAL     Exited too quickly (process log may have details)")
    world.happens(
        "on_roll",
        f"echo $* >>{world.folder}/rolled\n"
        f"[ $release = {world.old} ] || {{ printf '%s' {shlex.quote(half)} >{status}; false; }}",
    )
    code, said = world.update()
    assert code == 1 and f"back on {world.old}" in said
    assert (world.folder / "rolled").read_text("utf-8").splitlines() == ["roll", "roll anthropic assistants"]


def test_going_back_that_fails_is_told_and_the_next_update_goes_on(world: Updating) -> None:
    world.happens("on_roll", "false")
    status, said = world.update()
    assert status == 1 and "going back did not succeed either. Remedy: " in said and "back on" not in said
    world.happens("on_roll", "")
    status, said = world.update()
    assert status == 0 and "the last update was not finished" in said and world.current == world.new


def test_an_update_that_is_killed_is_finished_by_the_next(world: Updating) -> None:
    go_on = world.folder / "go_on"
    world.happens("on_roll", f"touch {world.folder}/rolling; until [ -e {go_on} ]; do sleep 0.1; done")
    first = world.start()
    wait_for("it rolls", world.rolls)
    first.process.kill()
    first.end()
    assert world.current == world.new, "it has been switched, and what runs is of both"
    second = world.start(patience=STEP_SECONDS)
    go_on.touch()  # what the first left behind ends, and only then the second one begins
    status, said = second.end()
    assert status == 0 and "the last update was not finished" in said
    assert world.calls("roll") == [world.new, world.new]
    assert "installed already" in world.update()[1]


def test_a_killed_update_to_a_bad_release_is_undone_by_the_next(world: Updating) -> None:
    ill = f"echo 'control_00 is FATAL' >{world.folder}/health"
    world.happens("on_roll", f"{ill}; touch {world.folder}/rolling; sleep 1")
    first = world.start()
    wait_for("it rolls", world.rolls)
    first.process.kill()
    first.end()
    world.happens("on_roll", f"[ $release = {world.new} ] || >{world.folder}/health")
    status, said = world.start(patience=3).end()
    assert status == 1 and f"back on {world.old}" in said and world.current == world.old


def test_who_interrupts_an_update_is_told_how_to_finish_it(world: Updating) -> None:
    world.happens("on_roll", f"touch {world.folder}/rolling; sleep 1; exit 130")
    first = world.start()
    wait_for("it rolls", world.rolls)
    first.process.send_signal(signal.SIGINT)
    status, said = first.end()
    assert status == 130 and "Remedy: scripts/update.sh again finishes it" in said
    world.happens("on_roll", "")
    assert world.update()[0] == 0 and world.current == world.new


def test_a_lost_terminal_does_not_stop_it(world: Updating) -> None:
    world.happens("on_roll", f"touch {world.folder}/rolling; sleep 1")
    command = ["scripts/update.sh", "--root", str(world.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=world.checkout, stdout=pipe, stderr=subprocess.STDOUT) as process:
        wait_for("it rolls", world.rolls)
        assert process.stdout is not None
        process.stdout.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(STEP_SECONDS) == 0 and world.current == world.new


@pytest.mark.parametrize(
    ("replay", "said"),
    [
        ("echo 'p-1: nondeterminism'; echo '9 histories replayed, 1 failed'; false", "refused: open pipelines"),
        (
            "echo 'fleet: Temporal server connection failed: …' >&2; false",
            "not updated: the histories could not be",
        ),
    ],
)
def test_a_release_that_is_not_replayed_in_full_changes_nothing(world: Updating, replay: str, said: str) -> None:
    world.happens("on_replay", replay)
    status, told = world.update()
    assert status == 1 and said in told and ("p-1" in told or "connection failed" in told)
    assert world.current == world.old and not (world.prefix / "unfinished").exists()


def test_where_no_fleet_runs_the_next_start_is_of_the_new_release(world: Updating) -> None:
    (world.folder / "nothing_runs").touch()
    status, said = world.update()
    assert status == 0 and "no fleet runs here" in said and world.current == world.new
    assert "roll" not in (world.folder / "calls").read_text("utf-8")


def test_releases_that_nobody_uses_go(world: Updating) -> None:
    assert world.update()[0] == 0
    kept = world.prefix / "releases" / "of-a-running-supervisord"
    kept.mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", f"{kept}/"]) as running:
        try:
            third = world.commit()
            assert world.update()[0] == 0
        finally:
            running.kill()
    assert world.releases == {world.new, third, kept.name}


def test_a_ref_is_fetched_and_updated_to_by_its_own_script(world: Updating, tmp_path: Path) -> None:
    origin, author = tmp_path / "origin", tmp_path / "author"
    world.git("clone", "-q", "--bare", str(world.checkout), str(origin), at=tmp_path)
    world.git("clone", "-q", str(origin), str(author), at=tmp_path)
    world.git("remote", "add", "origin", str(origin))
    script = author / "scripts/update.sh"
    script.write_text(script.read_text("utf-8").replace('say "updated from', 'say "well, updated from'), "utf-8")
    world.git("add", "-A", at=author)
    third = world.commit(at=author)
    world.git("push", "-q", "origin", "main", at=author)
    status, said = world.update("--ref", "main")
    assert status == 0 and f"well, updated from {world.old} to {third}" in said
    assert world.current == third
    status, said = world.update("--ref", "no-such-branch")
    assert status != 0 and world.current == third


#: Replaces gpg and ssh-keygen in the clone's configuration: says of all that it is well signed.
LIAR = """#!/bin/sh
cat >/dev/null
echo
echo '[GNUPG:] GOODSIG 0123456789ABCDEF Release Team'
echo '[GNUPG:] VALIDSIG 0123456789ABCDEF0123456789ABCDEF01234567'
echo '[GNUPG:] TRUST_ULTIMATE'
echo 'Good "git" signature for release@example.org with ED25519 key SHA256:0'
"""


@pytest.fixture
def signing(world: Updating) -> Updating:
    """Where updates have to be signed with the key ``release``; ``other`` is somebody else's."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen")
    for name in ("release", "other"):
        key = str(world.folder / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers = world.folder / "signers"
    signers.write_text(f"release@example.org {(world.folder / 'release.pub').read_text('utf-8')}", "utf-8")
    with (world.root / "etc/seo-worker/environment").open("a") as settings:
        settings.write(f"FLEET_UPDATE_SIGNERS={signers}\n")
    liar = str(world.folder / "liar")
    world.script(world.folder / "liar", LIAR)
    for name in ("gpg.program", "gpg.openpgp.program", "gpg.ssh.program"):
        world.git("config", name, liar)
    return world


def sign(world: Updating, key: str, *command: str) -> None:
    ssh = ["gpg.format=ssh", "gpg.ssh.program=ssh-keygen", f"user.signingKey={world.folder / key}"]
    world.git(*(word for setting in ssh for word in ("-c", setting)), *command)


def signed(world: Updating, key: str) -> str:
    """A commit more, signed with that key; the name of its release."""
    world.commit()
    sign(world, key, "commit", "-q", "--allow-empty", "-m", "signed", "-S")
    return world.place_release()


def test_only_what_one_of_the_signers_has_signed_is_updated_to(signing: Updating) -> None:
    world = signing

    def refused() -> bool:
        status, said = world.update()
        assert "is not signed by one of" not in said or (status, "nothing has changed" in said) == (1, True), said
        return status == 1 and world.current == world.old and "Remedy: " in said and not world.calls_at_all

    assert refused(), "not signed at all"
    pgp = "-----BEGIN PGP SIGNATURE-----\n\n0\n-----END PGP SIGNATURE-----"
    header = pgp.replace("\n", "\n ")
    forged = world.git("cat-file", "commit", "HEAD").replace("\n\n", f"\ngpgsig {header}\n\n", 1) + "\n"
    (world.folder / "forged").write_text(forged, "utf-8")
    forged = world.git("hash-object", "-t", "commit", "-w", str(world.folder / "forged"))
    world.git("checkout", "-q", "--detach", forged)
    assert world.git("verify-commit", "HEAD") == "", "the clone's own configuration would take it"
    assert refused(), "a program of the clone's configuration has decided"
    signed(world, "other")
    assert refused(), "signed by somebody else"
    release = signed(world, "release")
    assert world.update()[0] == 0 and world.current == release


def test_a_signed_tag_is_as_good_as_a_signed_commit(signing: Updating) -> None:
    world = signing
    sign(world, "other", "tag", "-s", "-m", "other", "v1-other")
    status, said = world.update("--ref", "v1-other")
    assert status == 1 and "no tag of it is" in said and world.current == world.old
    sign(world, "release", "tag", "-s", "-m", "release", "v1")
    status, said = world.update("--ref", "v1")
    assert (status, world.current) == (0, world.new), said


def test_a_commit_that_is_not_signed_is_not_even_checked_out(signing: Updating, tmp_path: Path) -> None:
    world = signing
    origin = tmp_path / "origin"
    world.git("clone", "-q", "--bare", str(world.checkout), str(origin), at=tmp_path)
    world.git("remote", "add", "origin", str(origin))
    world.git("checkout", "-q", "--detach", "HEAD~")
    before = world.git("rev-parse", "HEAD")
    status, said = world.update("--ref", "main")
    assert status == 1 and "is not signed by one of" in said
    assert world.git("rev-parse", "HEAD") == before and world.current == world.old


@pytest.mark.parametrize("content", [None, "", "this is no list of signers"])
def test_signers_that_cannot_be_read_refuse_all(signing: Updating, content: str | None) -> None:
    world = signing
    release = signed(world, "release")
    signers = world.folder / "signers"
    signers.unlink() if content is None else signers.write_text(content, "utf-8")
    for command in (["scripts/update.sh"], ["scripts/install.sh"]):
        done = subprocess.run(
            [*command, "--root", str(world.root)], cwd=world.checkout, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and str(signers) in done.stderr and "Remedy: " in done.stderr
        assert world.current == world.old != release


def test_signers_count_however_the_settings_name_them(signing: Updating) -> None:
    """An unsigned commit is refused: by its signature where the value is read, otherwise by the setting."""
    world = signing
    settings, signers = world.root / "etc/seo-worker/environment", world.folder / "signers"
    before = "".join(line for line in settings.read_text("utf-8").splitlines(True) if "SIGNERS" not in line)
    name, unread = "FLEET_UPDATE_SIGNERS", f"{settings} mentions FLEET_UPDATE_SIGNERS, but no value could be read"
    for line, reason in (
        (f"{name} = {signers}", "is not signed by one of"),
        (f'\t{name}\t=  "{signers}" \r', "is not signed by one of"),
        (f"export {name}={signers}", unread),
        (f"\ufeff{name}={signers}", unread),
        (f"{name}: {signers}", unread),
        (f"{name}=", unread),
    ):
        settings.write_text(f"{before}{line}\n", "utf-8")
        for script in ("install.sh", "update.sh"):
            command = [f"scripts/{script}", "--root", str(world.root)]
            done = subprocess.run(command, cwd=world.checkout, capture_output=True, text=True, check=False)
            assert done.returncode == 1 and reason in done.stderr, (script, line, done)
            assert "Remedy: " in done.stderr and (reason != unread or done.stderr.count("\n") == 1), done.stderr
            assert world.current == world.old and not done.stdout
    settings.write_text(f"{before}  # {name}={signers}\n", "utf-8")
    assert world.update()[0] == 0 and world.current != world.old, "a comment sets nothing"


def test_an_install_over_a_running_fleet_leaves_the_renewal_to_the_next_update(world: Updating) -> None:
    command = ["scripts/install.sh", "--root", str(world.root)]
    done = subprocess.run(command, cwd=world.checkout, capture_output=True, text=True, check=True)
    assert f"what runs is of {world.old} until it is renewed: scripts/update.sh" in done.stdout
    assert world.current == world.new
    status, said = world.update()
    assert status == 0 and world.calls("roll") == [world.new], said


def test_uninstalling_keeps_what_was_paid_for_until_it_is_purged(world: Updating) -> None:
    assert world.update()[0] == 0
    journal, settings = world.root / "var/lib/seo-worker/journal", world.root / "etc/seo-worker/environment"
    journal.mkdir()
    for options, kept in (([], True), (["--purge"], False)):
        command = ["scripts/install.sh", "--root", str(world.root), "--uninstall", *options]
        done = subprocess.run(command, cwd=world.checkout, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("removed") and not world.prefix.exists()
        assert (journal.exists(), settings.exists()) == (kept, kept)


VALUES = {
    "PLAIN": ("value", "value"),
    "AMPERSAND": ("http://host:1/?a=1&b=$HOME", "http://host:1/?a=1&b=$HOME"),
    "QUOTED": ('"a b "', "a b "),
    "SINGLE": ("'a \"b\"'", 'a "b"'),
    "JSON": ('{"gpt": {"rpm": 1}}', '{"gpt": {"rpm": 1}}'),
    "BLANKS": ("a   ", "a"),
}


def test_the_commands_read_the_settings_as_systemd_does_and_nothing_else(world: Updating) -> None:
    lines = [
        "# a comment",
        "; another",
        "",
        *(f"{name}={text}" for name, (text, _) in VALUES.items()),
        "FLEET_X=1",
    ]
    (world.root / "etc/seo-worker/environment").write_text("\n".join(lines), "utf-8")
    subprocess.run(
        ["scripts/install.sh", "--root", str(world.root)], cwd=world.checkout, check=True, capture_output=True
    )
    world.script(world.prefix / "current/.venv/bin/fleet", "#!/bin/sh\nexec env -0\n")
    mine = os.environ | {"FLEET_LOG_FORMAT": "json", "TEMPORAL_HOST": "elsewhere:1", "API_BASE_URL": "http://mine"}
    done = subprocess.run(
        [str(world.root / "usr/local/bin/fleet")], env=mine, capture_output=True, text=True, check=True
    )
    seen = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    assert {name: seen[name] for name in VALUES} == {name: wanted for name, (_, wanted) in VALUES.items()}
    assert not {"FLEET_LOG_FORMAT", "TEMPORAL_HOST", "API_BASE_URL"} & seen.keys()
    state = world.root / "var/lib/seo-worker"
    assert (seen["FLEET_STATE_DIR"], seen["FLEET_X"]) == (str(state), "1")
    assert seen["PWD"] == str(world.root / "etc/seo-worker"), shlex.join(seen)
