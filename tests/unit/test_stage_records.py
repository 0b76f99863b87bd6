"""The public JSON of a pipeline's stages: programs of others read it, so its fields and their order stay."""

from dataclasses import asdict, replace

from fleet.contracts import OUTPUT_MAX_BYTES, Assistant, AssistantResult, ErrorRecord
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.stages import Stages

ASSISTANTS = [
    Assistant("brief", "Brief", 1, "openai", "gpt-4o", "Write a brief."),
    Assistant("draft", "Draft", 2, "anthropic", "claude-haiku-4-5", "Write."),
]
ANSWER = AssistantResult(
    function_key="brief",
    output="A brief.",
    provider="openai",
    model="gpt-4o-2024-08-06",
    finish_reason="stop",
    input_tokens=120,
    cached_input_tokens=20,
    output_tokens=30,
    cost_usd=0.0006,
    price_version="genai-prices 0.2.3",
    attempts=2,
    seconds=1.5,
    started="2025-01-31T10:00:01.000+00:00",
    idempotency_key="fleet-1",
    possibly_paid_twice=1,
    calls=3,
    simulated=True,
    service_tier="flex",
    price_note="priced at the standard tier",
)


def stages() -> Stages:
    return Stages(ASSISTANTS, PipelineInputs("Kávovar", "p", "", "2025-01-31"))


def test_a_stage_that_is_done_tells_how_its_output_came_about() -> None:
    pipeline = stages()
    pipeline.queue("brief", 1_738_317_600.0)
    pipeline.finish(ANSWER, 1_738_317_604.0)
    record = asdict(pipeline.records()[0])
    assert list(record.items()) == [
        ("stage", "Brief"),
        ("status", "done"),
        ("function_key", "brief"),
        ("order", 1),
        ("started", "2025-01-31T10:00:00.000+00:00"),
        ("duration", 4.0),
        ("output", "A brief."),
        ("metadata", record["metadata"]),
        ("output_json", None),
    ]
    assert list(record["metadata"].items()) == [
        ("provider", "openai"),
        ("model", "gpt-4o-2024-08-06"),
        ("inputs", []),
        ("attempts", 2),
        ("input_tokens", 120),
        ("cached_input_tokens", 20),
        ("output_tokens", 30),
        ("cost_usd", 0.0006),
        ("price_version", "genai-prices 0.2.3"),
        ("price_note", "priced at the standard tier"),
        ("service_tier", "flex"),
        ("simulated", True),
        ("finish_reason", "stop"),
        ("call_started", "2025-01-31T10:00:01.000+00:00"),
        ("call_seconds", 1.5),
        ("idempotency_key", "fleet-1"),
        ("calls", 3),
        ("possibly_paid_twice", 1),
        ("reused_from", None),
    ]


def test_a_stage_that_failed_has_the_same_fields_and_its_attempts() -> None:
    pipeline = stages()
    pipeline.fail("draft", ErrorRecord("provider_error", "HTTP 500", "anthropic", 3, retryable=True), 5.0)
    done, failed = (record.metadata for record in pipeline.records())
    assert list(done) == list(failed)
    assert {name: value for name, value in failed.items() if value} == {
        "provider": "anthropic",
        "model": "claude-haiku-4-5",
        "inputs": ["brief"],
        "attempts": 3,
    }


def test_an_answer_that_was_cut_off_is_warned_of() -> None:
    pipeline = stages()
    pipeline.finish(replace(ANSWER, finish_reason="length", output_tokens=1_200), 1.0)
    (warning,) = pipeline.cut_off()
    assert warning.startswith("Brief: its answer was cut off at max_tokens (1,200 output tokens). Remedy: raise ")


def test_an_answer_from_an_earlier_run_that_was_cut_off_is_warned_of_too() -> None:
    pipeline = stages()
    pipeline.reuse(replace(ANSWER, finish_reason="length", output_tokens=0, reused_from="run-1"))
    (warning,) = pipeline.cut_off()
    assert warning.startswith("Brief: its answer was cut off at max_tokens. Remedy: raise ")


def test_an_answer_that_was_cut_to_fit_does_not_blame_max_tokens() -> None:
    pipeline = stages()
    pipeline.finish(replace(ANSWER, finish_reason="length", output="x" * OUTPUT_MAX_BYTES), 1.0)
    assert pipeline.cut_off() == ["Brief: its answer was cut to fit into what Temporal carries"]


def test_a_whole_answer_is_not_warned_of() -> None:
    pipeline = stages()
    pipeline.finish(ANSWER, 1.0)
    assert pipeline.cut_off() == []
