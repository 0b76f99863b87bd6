"""Both deployment guides say the same, and what the code and the systemd unit do."""

import re
import shutil
import subprocess

import pytest

from fleet.config import PROJECT_ROOT
from scripts.settings_table import CZECH, table, variables
from tests.process.guides import GUIDES, blocks, commands

UNIT = PROJECT_ROOT / "deploy" / "systemd" / "seo-worker.service"


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def test_both_guides_have_the_same_commands() -> None:
    english, czech = map(commands, GUIDES)
    assert english == czech and len(english) > 20
    assert blocks(GUIDES[0], "python") == blocks(GUIDES[1], "python")


def test_both_guides_have_the_same_chapters() -> None:
    english, czech = (re.findall(r"^(#+) .+$", guide.read_text("utf-8"), re.MULTILINE) for guide in GUIDES)
    assert english == czech


def test_the_table_of_settings_is_that_of_the_code_in_both_languages() -> None:
    assert table() in GUIDES[0].read_text("utf-8")
    assert CZECH.keys() == set(variables()), "each setting has its Czech words"
    assert table(CZECH) in GUIDES[1].read_text("utf-8")


def test_the_unit_is_hardened_and_in_order() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    scored = analyzed("security", "--offline=true", str(UNIT))
    (score,) = re.findall(r"exposure level for seo-worker.service: ([\d.]+)", scored.stdout)
    assert float(score) <= 2.0
    verified = analyzed("verify", str(UNIT))
    complaints = [line for line in verified.stderr.splitlines() if "is not executable" not in line]
    assert [line for line in complaints if "seo-worker" in line] == []
    assert "TimeoutStopSec=660" in UNIT.read_text("utf-8") and "StartLimitIntervalSec=0" in UNIT.read_text("utf-8")
