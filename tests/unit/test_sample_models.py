"""The models that the samples and templates name, which a newcomer's first calls go to."""

import re
from pathlib import Path

import pytest
from anthropic.resources.messages.messages import DEPRECATED_MODELS

import fleet.devstack.sample
from fleet.projects import new_project
from fleet.provider_settings import KINDS
from fleet.providers.registry import spec_of

SAMPLES = Path(fleet.devstack.sample.__file__).parent
TEXTS = {path.name: path.read_text("utf-8") for path in sorted(SAMPLES.glob("*/*.prompt"))} | {
    "new_project.py": Path(new_project.__file__).read_text("utf-8"),
    **{f"{kind}'s example_model": f"{kind}/{spec_of(kind).example_model}" for kind in KINDS},
}
#: Models of Gemini that end on 1 December 2026. Source: Google "Gemini deprecations".
ENDING = {"gemini-2.5-flash", "gemini-2.5-pro"}


@pytest.mark.parametrize("where", TEXTS)
def test_a_sample_names_no_model_whose_vendor_ends_it(where: str) -> None:
    named = re.findall(r"\b(?:openai|anthropic|gemini)/([\w.-]+)", TEXTS[where])
    assert named
    assert not {*named} & (DEPRECATED_MODELS.keys() | ENDING)
