"""One assistant alone: what stands beside it, what it asks, and what is refused before anything is paid."""

import pytest

from fleet.contracts import ActivityLimits, Assistant, ModelChoice, PipelinePlan, Trial
from fleet.errors import InputError
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.stages import Stages
from fleet.pipeline.trials import given_results, trial_of, trial_plan

SCHEMA = {"type": "object", "properties": {"keywords": {"type": "array"}}, "required": ["keywords"]}
OTHER = ModelChoice("anthropic", "n")
BRIEF = Assistant("brief", "Brief", 1, "openai", "m", "Plan.", output_schema=SCHEMA, input_keys=["topic", "csv"])
DRAFT = Assistant("draft", "Draft", 2, "openai", "m", "Write.", input_keys=["brief.keywords"], fallback=[OTHER])
REVIEW = Assistant("review", "Review", 3, "openai", "m", "Check.")
LIMITS = ActivityLimits(600.0, 30.0, 1.0, 2.0)
PLAN = PipelinePlan("my", [BRIEF, DRAFT, REVIEW], {"openai": "llm-openai"}, LIMITS, "0123456789ab")
INPUTS = PipelineInputs("Coffee", "my", "", "2025-01-31")


def stages_of(trial: Trial) -> Stages:
    stages = Stages(trial_plan(PLAN, trial).assistants, INPUTS)
    for result in given_results(trial):
        stages.reuse(result)
    return stages


def test_it_gets_what_it_would_get_in_a_pipeline() -> None:
    assignment = stages_of(Trial("draft", {"brief": '{"keywords": ["bean", "roast"]}'})).assignment("draft")
    assert [(output.key, output.text) for output in assignment.outputs] == [
        ("brief.keywords", '["bean", "roast"]')
    ]
    assert assignment.assistant == DRAFT


def test_the_default_input_is_the_assistant_before_it() -> None:
    plan = trial_plan(PLAN, Trial("review", {"draft": "A text."}))
    assert [assistant.function_key for assistant in plan.assistants] == ["draft", "review"]
    (output,) = stages_of(Trial("review", {"draft": "A text."})).assignment("review").outputs
    assert output.text == "A text." and plan.fingerprint == PLAN.fingerprint


def test_what_is_given_reads_nothing_and_costs_nothing() -> None:
    trial = Trial("draft", {"brief": "{}"})
    given, tried = stages_of(trial).records()
    assert (given.status, given.metadata["cost_usd"], given.metadata["inputs"]) == ("done", 0.0, [])
    assert (given.metadata["provider"], given.metadata["reused_from"]) == ("given", "given")
    assert tried.status == "waiting" and stages_of(trial).ready("draft")


def test_another_model_is_asked_in_its_queue_and_has_no_fallback() -> None:
    given = {"brief": "{}"}
    plan = trial_plan(PLAN, Trial("draft", given, ModelChoice("groq", "x/y"), "llm-own"))
    draft = plan.assistants[-1]
    assert (draft.provider, draft.model, draft.fallback) == ("groq", "x/y", [])
    assert plan.queue_of(ModelChoice("groq", "x/y")) == "llm-own"
    assert plan.queue_of(ModelChoice("openai", "m")) == "llm-openai"
    plan = trial_plan(PLAN, Trial("draft", given, ModelChoice("groq", "x/y")))
    assert plan.queue_of(ModelChoice("groq", "x/y")) == "llm-groq"


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (Trial("nobody"), "project 'my' has no assistant 'nobody'. Remedy: name one of brief, draft, review"),
        (Trial("draft"), "draft reads brief: not given. Remedy: add --input brief=FILE"),
        (Trial("review", {"brief": "a"}), "review reads draft: not given"),
        (Trial("draft", {"brief": "a", "review": "b"}), "draft does not read 'review'. Remedy: name one of brief"),
        (Trial("brief", {"draft": "a"}), "brief does not read 'draft'. Remedy: leave --input out"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_option(trial: Trial, said: str) -> None:
    with pytest.raises(InputError) as refused:
        trial_plan(PLAN, trial)
    assert str(refused.value).startswith(said)


def test_the_argument_of_another_client_is_checked() -> None:
    assert trial_of([{"function_key": "brief", "later": 1}]) == Trial("brief")
    for further in (
        [],
        ["brief"],
        [{}],
        [{"function_key": "brief"}, 2],
        [{"function_key": "brief", "outputs": 3}],
    ):
        with pytest.raises(InputError, match="the fifth and last argument is not a trial"):
            trial_of(further)
