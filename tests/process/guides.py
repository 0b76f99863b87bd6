"""The deployment guide in both languages: its blocks of code, and the commands in them."""

import re
from pathlib import Path

from fleet.config import PROJECT_ROOT

GUIDES = [PROJECT_ROOT / "docs" / name for name in ("deployment.md", "deployment.cs.md")]


def blocks(guide: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)


def commands(guide: Path) -> list[str]:
    lines = [line.partition("   ")[0].strip() for block in blocks(guide, "bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
