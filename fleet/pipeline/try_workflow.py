"""``AssistantTryWorkflow``: one assistant of a project alone, executed as it is in a pipeline."""

from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from fleet.contracts import TRY_TYPE, PipelineResult
    from fleet.errors import InputError
    from fleet.pipeline.trials import given_results, trial_of, trial_plan
    from fleet.pipeline.workflow import AssistantPipelineWorkflow


@workflow.defn(name=TRY_TYPE)
class AssistantTryWorkflow(AssistantPipelineWorkflow):
    """Runs one assistant, whose inputs are given; see :class:`~fleet.contracts.Trial`.

    Started with the four arguments of a pipeline and the trial. Its queries, its signal and its result are those
    of a pipeline, with the given texts as answers that cost nothing.
    """

    @workflow.run
    async def run(
        self,
        topic: Any = None,
        project_id: Any = None,
        csv_data: Any = None,
        current_date: Any = None,
        *further: Any,
    ) -> PipelineResult:
        """Validate, load, execute the one assistant. Returns and fails as a pipeline does."""
        try:
            trial = trial_of(further)
            await self._take_inputs(topic, project_id, csv_data, current_date)
            plan = trial_plan(await self._load(), trial)
        except InputError as error:
            self._refuse(error)
        self._begin(plan, workflow.info().first_execution_run_id, retried=False)
        for result in given_results(trial):
            self._stages.reuse(result)
        return await self._execute_all(plan)

    def _measure(self) -> None:
        """Trials are not part of the durations of pipelines."""
