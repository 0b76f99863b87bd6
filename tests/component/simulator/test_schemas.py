"""The simulator refuses schemas as the real APIs do, asked by the unmodified SDKs."""

from typing import Any

import anthropic
import openai
import pytest

from fleet.devstack.simulator.testing import RunningSimulator

OPEN = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
CLOSED = OPEN | {"additionalProperties": False}
OPTIONAL = CLOSED | {"required": []}
BOUNDED = CLOSED | {"properties": {"a": {"type": "integer", "maximum": 3}}}


def named(schema: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"name": "output", "schema": schema, "strict": True} | changes


async def responses(simulator: RunningSimulator, model: str, form: dict[str, Any]) -> Any:
    client = openai.AsyncOpenAI(api_key="k", base_url=simulator.provider_url("openai"), max_retries=0)
    async with client:
        text: Any = {"format": {"type": "json_schema"} | form}
        return await client.responses.create(model=model, input="Write.", text=text)


async def chat(simulator: RunningSimulator, model: str, form: dict[str, Any]) -> Any:
    client = openai.AsyncOpenAI(api_key="k", base_url=simulator.provider_url("openai"), max_retries=0)
    async with client:
        wanted: Any = {"type": "json_schema", "json_schema": form}
        messages: Any = [{"role": "user", "content": "Write."}]
        return await client.chat.completions.create(model=model, messages=messages, response_format=wanted)


@pytest.mark.parametrize(
    ("model", "form", "said"),
    [
        ("gpt-4o", named(OPEN), "'additionalProperties' is required to be supplied and to be false"),
        ("gpt-4o", named(OPTIONAL), "array including every key in properties. Missing 'a'"),
        ("gpt-4o", named(CLOSED | {"allOf": [OPEN]}), "'allOf' is not permitted"),
        ("gpt-4o", named({"type": "array", "items": {}}), "got "),
        ("gpt-4o", named(CLOSED, name="a b"), "string does not match pattern"),
        ("gpt-4o", {"schema": CLOSED}, "Missing required parameter"),
        ("gpt-4-turbo", named(CLOSED), "not supported with this model"),
    ],
)
@pytest.mark.parametrize("ask", [responses, chat], ids=["responses", "chat"])
async def test_openai_refuses_what_it_does_not_take(
    simulator: RunningSimulator, ask: Any, model: str, form: dict[str, Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(simulator, model, form)
    assert said in str(refused.value)
    if model == "gpt-4o" and "name" in form:  # without strict, schemas of this kind are taken
        loose = named(OPEN, strict=False)
        assert (await ask(simulator, model, loose)).id


@pytest.mark.parametrize(
    ("model", "schema", "said"),
    [
        ("claude-sonnet-4-6", OPEN, "'additionalProperties' must be explicitly set to false"),
        ("claude-sonnet-4-6", BOUNDED, "For 'integer' type, properties maximum are not supported"),
        ("claude-3-5-haiku-20241022", CLOSED, "does not support output format"),
    ],
)
async def test_anthropic_refuses_what_it_does_not_take(
    simulator: RunningSimulator, model: str, schema: dict[str, Any], said: str
) -> None:
    client = anthropic.AsyncAnthropic(api_key="k", base_url=simulator.base_url, max_retries=0)
    async with client:
        with pytest.raises(anthropic.BadRequestError) as refused:
            await client.messages.create(
                model=model,
                max_tokens=100,
                messages=[{"role": "user", "content": "Write."}],
                output_config={"format": {"type": "json_schema", "schema": schema}},
            )
    assert said in str(refused.value)
