"""The models that samples, templates, messages and documents name, which a newcomer's first calls go to."""

import re
from pathlib import Path

import pytest
from anthropic.resources.messages.messages import DEPRECATED_MODELS

import fleet.devstack.sample
from fleet.config import PROJECT_ROOT
from fleet.provider_settings import KINDS
from fleet.providers.registry import spec_of

SAMPLES = Path(fleet.devstack.sample.__file__).parent
FILES = [
    *SAMPLES.glob("*/*.prompt"),
    *(PROJECT_ROOT / "docs").glob("*.md"),
    *(PROJECT_ROOT / "fleet").rglob("*.py"),
]
NAMED = re.compile(r"\b(?:openai|anthropic|gemini)/((?:gpt|o\d|claude|gemini)-[\w.-]+)")
TEXTS = {str(path.relative_to(PROJECT_ROOT)): path.read_text("utf-8") for path in sorted(FILES)} | {
    f"{kind}'s example_model": f"{kind}/{spec_of(kind).example_model}" for kind in KINDS
}
#: Sources: Google "Gemini deprecations" (1 December 2026) and OpenAI "Deprecations" (by 14 January 2027).
ENDING = {"gemini-2.5-flash", "gemini-2.5-pro"} | {
    *("gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5-pro", "o3", "o3-pro"),
    *("gpt-4", "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"),
}


@pytest.mark.parametrize("where", [where for where, text in TEXTS.items() if NAMED.search(text)])
def test_no_model_is_named_whose_vendor_ends_it(where: str) -> None:
    assert not {*NAMED.findall(TEXTS[where])} & (DEPRECATED_MODELS.keys() | ENDING)


def test_each_sample_names_a_model() -> None:
    samples = [text for where, text in TEXTS.items() if where.endswith(".prompt")]
    assert samples
    assert all(NAMED.search(text) for text in samples)
