"""What `fleet preview` says of an assistant's request."""

from fleet.cli.console import Console
from fleet.cli.preview import preview_of
from fleet.cli.show import show_preview
from fleet.config import load_settings
from fleet.contracts import Assistant
from fleet.model_options import ModelOptions
from fleet.pipeline.inputs import PipelineInputs

INPUTS = PipelineInputs(topic="Coffee", project_id="my", csv_text="", current_date="2025-01-31")


def test_a_preview_has_the_sampling_and_the_options_that_would_be_sent() -> None:
    options = ModelOptions(seed=7, stop=["---"])
    assistant = Assistant(
        "a", "A", 1, "gemini", "gemini-2.5-flash", "Write.", temperature=0.25, top_p=0.5, options=options
    )
    found = preview_of(load_settings(api_base_url="http://localhost:1"), [assistant], INPUTS, "a")
    console = Console(width=120)
    with console.capture() as printed:
        show_preview(console, found)
    sampling = 'temperature 0.25, top_p 0.5, max tokens the model\'s own maximum\nstop ["---"]\nseed 7\n'
    assert sampling in printed.get()
    said = found.to_json()
    assert (said["temperature"], said["top_p"], said["options"]) == (0.25, 0.5, {"stop": ["---"], "seed": 7})
