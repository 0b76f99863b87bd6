"""``python -m bench.throughput.bare ROLE``: the worker that the fleet is measured against.

The plainest program with the shape of a fleet's: a pipeline that loads its assistants from the backend and runs
them one after another on their provider's queue, with the SDKs as they come. It has no journal, no budget, no
heartbeat and no metrics, and like the fleet's no workflow sandbox (decision 18). ROLE is ``pipeline``,
``assistants`` or a provider; each is a process, as in the fleet.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

PIPELINE, LOAD, ASK = "BarePipeline", "bare_load", "bare_ask"
#: The same as the fleet's defaults.
CONCURRENCY = {"pipeline": 100, "assistants": 20}
PROVIDER_CONCURRENCY = 10
_TIMEOUT = timedelta(seconds=600)
_MAX_TOKENS = 3000


def queue_of(role: str) -> str:
    """The task queue of a role. The fleet's queues have rates that its budgets set."""
    return f"bare-{role}"


@dataclass(frozen=True)
class Step:
    """What an assistant needs for its call."""

    provider: str
    model: str
    system_prompt: str


@workflow.defn(name=PIPELINE, sandboxed=False)
class BarePipeline:
    """Each assistant reads the output of the one before it."""

    @workflow.run
    async def run(self, topic: str, project: str) -> list[str]:
        """The outputs, in order."""
        steps = await workflow.execute_activity(
            LOAD,
            project,
            task_queue=queue_of("assistants"),
            start_to_close_timeout=_TIMEOUT,
            result_type=list[Step],
        )
        outputs: list[str] = []
        for step in steps:
            text = await workflow.execute_activity(
                ASK,
                args=[step, outputs[-1] if outputs else topic],
                task_queue=queue_of(step.provider),
                start_to_close_timeout=_TIMEOUT,
                result_type=str,
            )
            outputs.append(text)
        return outputs


Ask = Callable[[Step, str], Awaitable[str]]


def openai_calls(base_url: str) -> Ask:
    """Calls of the Responses API by OpenAI's SDK."""
    import openai

    client = openai.AsyncOpenAI(api_key="sim-bare", base_url=base_url, max_retries=0)

    async def ask(step: Step, text: str) -> str:
        answer = await client.responses.create(
            model=step.model,
            instructions=step.system_prompt,
            input=text,
            temperature=0.7,
            max_output_tokens=_MAX_TOKENS,
        )
        return answer.output_text

    return ask


def anthropic_calls(base_url: str) -> Ask:
    """Streamed calls by Anthropic's SDK, as the fleet makes them."""
    import anthropic

    client = anthropic.AsyncAnthropic(api_key="sim-bare", base_url=base_url, max_retries=0)

    async def ask(step: Step, text: str) -> str:
        async with client.messages.stream(
            model=step.model,
            max_tokens=_MAX_TOKENS,
            system=step.system_prompt,
            messages=[{"role": "user", "content": text}],
        ) as stream:
            message = await stream.get_final_message()
        return "".join(block.text for block in message.content if block.type == "text")

    return ask


def gemini_calls(base_url: str) -> Ask:
    """Calls by Google's SDK."""
    from google import genai

    client = genai.Client(api_key="sim-bare", http_options={"base_url": base_url, "api_version": "v1beta"})

    async def ask(step: Step, text: str) -> str:
        answer = await client.aio.models.generate_content(
            model=step.model,
            contents=text,
            config={
                "system_instruction": step.system_prompt,
                "temperature": 0.7,
                "max_output_tokens": _MAX_TOKENS,
            },
        )
        return answer.text or ""

    return ask


CALLS: dict[str, Callable[[str], Ask]] = {
    "openai": openai_calls,
    "anthropic": anthropic_calls,
    "gemini": gemini_calls,
}


def activities_of(role: str) -> list[Callable[..., Any]]:
    """The activities that a role serves."""
    if role == "pipeline":
        return []
    if role == "assistants":
        backend = httpx.AsyncClient(base_url=os.environ["API_BASE_URL"], trust_env=False)

        @activity.defn(name=LOAD)
        async def load(project: str) -> list[Step]:
            answer = await backend.get(f"/api/assistant/{project}")
            rows = sorted(answer.raise_for_status().json(), key=lambda row: row["order"])
            return [Step(row["model_provider"], row["model"], row["system_prompt"]) for row in rows]

        return [load]
    call = CALLS[role](os.environ["PROVIDER_URL"])

    @activity.defn(name=ASK)
    async def ask(step: Step, text: str) -> str:
        return await call(step, text)

    return [ask]


async def work(role: str) -> None:
    """Serve the role's queue until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    concurrency = CONCURRENCY.get(role, PROVIDER_CONCURRENCY)
    client = await Client.connect(os.environ["TEMPORAL_HOST"])
    async with Worker(
        client,
        task_queue=queue_of(role),
        workflows=[BarePipeline] if role == "pipeline" else [],
        activities=activities_of(role),
        max_concurrent_activities=None if role == "pipeline" else concurrency,
        max_concurrent_workflow_tasks=concurrency if role == "pipeline" else None,
    ):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
