"""Keeps a pipeline's result within what Temporal can carry."""

from dataclasses import replace

from fleet.contracts import PipelineResult, StageRecord

# Temporal refuses payloads above 2 MiB, for ever; what surrounds the outputs needs room too.
_MOST_BYTES = 1_500_000


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def fitting(result: PipelineResult) -> PipelineResult:
    """``result``, or where its outputs are too large together, the same without the largest of them.

    A stage whose output is left out says so in ``metadata["output_left_out_bytes"]``; its text is the
    result of its activity, and in the answer of the query ``outputs``.
    """
    room = _MOST_BYTES - _bytes(result.final_output)
    kept: dict[str, StageRecord] = {}
    for stage in sorted(result.stages, key=lambda stage: _bytes(stage.output)):
        room -= _bytes(stage.output)
        kept[stage.function_key] = stage if room >= 0 else _without_output(stage)
    return replace(result, stages=[kept[stage.function_key] for stage in result.stages])


def _without_output(stage: StageRecord) -> StageRecord:
    left_out = {"output_left_out_bytes": _bytes(stage.output)}
    return replace(stage, output="", metadata=stage.metadata | left_out)
