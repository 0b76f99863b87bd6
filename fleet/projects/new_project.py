"""The files of a new project: three assistants with comments, which run as they are."""

import shlex
from pathlib import Path

from fleet.projects.prompt_file import model_choice
from fleet.provider_settings import KINDS
from fleet.providers.model_profiles import profile_of
from fleet.providers.spec import ModelProfile

DEFAULT_MODEL = "openai/gpt-6-luna"

_BRIEF = """\
# One assistant: its settings stand between the two lines ---, its prompt below them. The file's name says the
# rest: 10 is its place in the order, "brief" the name by which other assistants read its output.
# Every field: docs/projects.md. Check the project with: fleet project check {path}
---
# PROVIDER/MODEL. Providers: openai, anthropic, gemini, and those that you add, such as a model server of your own.
model: {model}
config:
{config}  maxOutputTokens: 2000
# The output is JSON with these properties, which programs can read, and other assistants one by one. A name with ?
# may be left out; the text after a comma tells the model what is meant. Without this part the output is text.
output:
  format: json
  schema:
    title: string, the title of the article
    audience: string, who reads it and what they want to know
    outline(array, the headings in order): string
    keywords(array, what people search for): string
# What this assistant reads, in its message: the topic, the date and the CSV of its pipeline, or other assistants'
# outputs by their names. Without this line it reads the output of the assistant before it.
fleet.inputs: [date, topic, csv]
# Of a large CSV, for example the 50 rows with the largest numbers in a column:
# fleet.csv: {{columns: [keyword, volume], rows: {{top: 50, by: volume}}}}
---
You are a content strategist. From the topic, and from the keywords if there are any, write a short brief of an
article: its title, who reads it, what they want to know, an outline, and keywords.
"""

_DRAFT = """\
# Reads the topic, the brief and one field of it, which its template below names.
---
model: {model}
config:
{config}  maxOutputTokens: 4000
---
You are an experienced editor. Write an article with headings and a conclusion. Follow the brief closely.

{{{{role "user"}}}}
{{{{! This is the message that is sent. Without such a part it is made of the inputs. }}}}
Topic: {{{{topic}}}}

The brief:
{{{{brief}}}}

Use each of these keywords once: {{{{brief.keywords}}}}
"""

_REVIEW = """\
# The last assistant's output is the output of the pipeline.
---
model: {model}
config:
{config}  maxOutputTokens: 4000
fleet.inputs: [brief, draft]
# If the model is away or refuses: other models, tried in this order.
# fleet.fallback: [anthropic/claude-sonnet-4-6]
---
You are the editor in chief. Compare the draft with the brief, correct what is wrong or missing, and return the
whole corrected article and nothing else.
"""


def new_project_files(folder: Path, model: str) -> dict[str, str]:
    """The text of each file, by its name, of a project in ``folder``; ``model`` is PROVIDER/MODEL."""
    texts = {"10-brief.prompt": _BRIEF, "20-draft.prompt": _DRAFT, "30-review.prompt": _REVIEW}
    known = {"path": shlex.quote(str(folder)), "model": model, "config": _config_of(model)}
    return {file: text.format_map(known) for file, text in texts.items()}


def _config_of(model: str) -> str:
    """An option that the model takes: a temperature, or how much it thinks."""
    provider, name = model_choice(model) or ("", "")
    profile = profile_of(provider, name) if provider in KINDS else ModelProfile()
    if profile.sampling != "none":
        return "  temperature: 0.7\n"
    return "  reasoningEffort: low\n" if "low" in (profile.efforts or ()) else ""
