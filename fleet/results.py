"""Keeps a pipeline's result within what Temporal can carry."""

from dataclasses import replace

from fleet.contracts import PAYLOAD_MAX_BYTES, PipelineResult, StageRecord
from fleet.sizes import payload_bytes, text_bytes

# For what a stage says instead of an output.
_NOTE_BYTES = 60


def fitting(result: PipelineResult) -> PipelineResult:
    """``result``, or where its outputs are too large together, the same without the largest of them.

    A stage whose output is left out says so in ``metadata["output_left_out_bytes"]``; its text is the
    result of its activity, and in the answer of the query ``outputs``.
    """
    if payload_bytes(result) <= PAYLOAD_MAX_BYTES:
        return result
    room = PAYLOAD_MAX_BYTES - payload_bytes(
        replace(result, stages=[_without_output(one) for one in result.stages])
    )
    if room < 0:
        left_out = f"final_output is left out: it has {_size(result.final_output):,} bytes"
        return fitting(replace(result, final_output="", warnings=[*result.warnings, left_out]))
    kept: dict[str, StageRecord] = {}
    for stage in sorted(result.stages, key=lambda stage: text_bytes(stage.output)):
        room -= max(text_bytes(stage.output) - _NOTE_BYTES, 0)
        kept[stage.function_key] = stage if room >= 0 else _without_output(stage)
    return replace(result, stages=[kept[stage.function_key] for stage in result.stages])


def _without_output(stage: StageRecord) -> StageRecord:
    left_out = {"output_left_out_bytes": _size(stage.output)}
    return replace(stage, output="", metadata=stage.metadata | left_out)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
