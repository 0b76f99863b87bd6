"""Keeps the results and query answers of a pipeline within what Temporal can carry."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.contracts import PAYLOAD_MAX_BYTES, AssistantProgress, PipelineResult, Progress, StageRecord
from fleet.errors import TooLarge
from fleet.process.payload_size import payload_bytes, surely_fit, text_bytes

# Room for the note that replaces a stage's output.
_NOTE_BYTES = 60


def fit_payload_limit(result: PipelineResult) -> PipelineResult:
    """``result`` itself; if its outputs together are too large, the same without the largest of them.

    A stage whose output is left out says so in ``metadata["output_left_out_bytes"]``; its text is in the result of
    its activity, and in the answer of the query ``outputs``.
    """
    if payload_bytes(result) <= PAYLOAD_MAX_BYTES:
        return result
    if any(stage.output_json is not None for stage in result.stages):  # the outputs hold the same as text
        return fit_payload_limit(
            replace(result, stages=[replace(stage, output_json=None) for stage in result.stages])
        )
    room = PAYLOAD_MAX_BYTES - payload_bytes(
        replace(result, stages=[_without_output(stage) for stage in result.stages])
    )
    if room < 0:
        left_out = f"final_output is left out: it has {_size(result.final_output):,} bytes"
        return fit_payload_limit(replace(result, final_output="", warnings=[*result.warnings, left_out]))
    kept = _kept({stage.function_key: stage.output for stage in result.stages}, room)
    return replace(
        result, stages=[stage if stage.function_key in kept else _without_output(stage) for stage in result.stages]
    )


def fit_progress(progress: Progress) -> Progress:
    """``progress`` itself; if its outputs together are too large, the same without the largest of them; the note
    of each affected assistant says so."""
    if (
        surely_fit([assistant.output for assistant in progress.assistants])
        or payload_bytes(progress) <= PAYLOAD_MAX_BYTES
    ):
        return progress
    bare = replace(progress, assistants=[_left_out(assistant) for assistant in progress.assistants])
    room = PAYLOAD_MAX_BYTES - payload_bytes(bare)
    kept = _kept({assistant.function_key: assistant.output for assistant in progress.assistants}, room)
    return replace(
        progress,
        assistants=[
            assistant if assistant.function_key in kept else _left_out(assistant)
            for assistant in progress.assistants
        ],
    )


def fit_outputs(outputs: Mapping[str, str]) -> dict[str, str]:
    """``outputs``, by functionKey.

    Raises:
        TooLarge: Temporal does not carry them together.
    """
    found = dict(outputs)
    if not surely_fit(list(found.values())) and (size := payload_bytes(found)) > PAYLOAD_MAX_BYTES:
        remedy = "pass the query a list of fewer functionKeys"
        raise TooLarge(f"the outputs of {len(found)} assistants", size, PAYLOAD_MAX_BYTES, remedy)
    return found


def _kept(outputs: Mapping[str, str], room: int) -> set[str]:
    """The keys of the smallest of these outputs that fit into ``room`` bytes together."""
    kept = set()
    for key in sorted(outputs, key=lambda key: text_bytes(outputs[key])):
        room -= max(text_bytes(outputs[key]) - _NOTE_BYTES, 0)
        if room >= 0:
            kept.add(key)
    return kept


def _left_out(progress: AssistantProgress) -> AssistantProgress:
    if not progress.output:
        return progress
    return replace(progress, output="", note=f"its output of {_size(progress.output):,} bytes is left out here")


def _without_output(stage: StageRecord) -> StageRecord:
    left_out = {"output_left_out_bytes": _size(stage.output)}
    return replace(stage, output="", metadata=stage.metadata | left_out)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
