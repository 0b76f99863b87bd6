"""``python -m bench.limits.plain PROVIDER``: what the fleet replaces.

One Temporal worker that leaves limits to retries: the SDK's own, and three attempts by Temporal.
"""

import asyncio
import signal
import sys
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from fleet.config import Settings, load_settings
from fleet.contracts import ASSIGNMENT_QUERY, EXECUTE_ASSISTANT, Assignment, AssistantCall, AssistantResult
from fleet.pipeline.prompts import build_user_message
from fleet.process.data_converter import data_converter

ATTEMPTS = 3


async def ask_openai(client: Any, assignment: Assignment, model: str) -> str:
    """One call by OpenAI's SDK as it comes: with its own retries."""
    answer = await client.responses.create(
        model=model,
        instructions=assignment.assistant.system_prompt,
        input=build_user_message(assignment),
        max_output_tokens=assignment.assistant.max_tokens,
    )
    return str(answer.output_text)


async def ask_gemini(client: Any, assignment: Assignment, model: str) -> str:
    """One call by Google's SDK as it comes."""
    config = {"system_instruction": assignment.assistant.system_prompt}
    answer = await client.aio.models.generate_content(
        model=model, contents=build_user_message(assignment), config=config
    )
    return str(answer.text)


def client_of(settings: Settings, provider: str) -> Any:
    """The provider's SDK with its own defaults."""
    url = settings.provider(provider).base_url
    if provider == "gemini":
        from google import genai

        return genai.Client(api_key="sim-plain", http_options={"base_url": url, "api_version": "v1beta"})
    import openai

    return openai.AsyncOpenAI(api_key="sim-plain", base_url=url)


async def work(provider: str) -> None:
    """Serve the provider's queue until SIGTERM."""
    settings = load_settings()
    temporal = await Client.connect(settings.temporal_host, data_converter=data_converter())
    sdk, ask = client_of(settings, provider), ask_gemini if provider == "gemini" else ask_openai

    @activity.defn(name=EXECUTE_ASSISTANT)
    async def execute(call: AssistantCall) -> AssistantResult:
        info = activity.info()
        pipeline = temporal.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        assignment = await pipeline.query(ASSIGNMENT_QUERY, call.function_key, result_type=Assignment)
        activity.heartbeat()
        try:
            text = await ask(sdk, assignment, call.model)
        except Exception as error:
            raise ApplicationError(str(error)[:200], non_retryable=info.attempt >= ATTEMPTS) from None
        return AssistantResult(
            call.function_key, text, provider, call.model, "stop", 0, 0, 0, None, None, info.attempt, 0.0, "", ""
        )

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    concurrency = settings.provider(provider).concurrency
    queue = settings.provider(provider).queue
    async with Worker(temporal, task_queue=queue, activities=[execute], max_concurrent_activities=concurrency):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
