"""OpenAI's chat completions, as answers and streams."""

import json
import time
from typing import Any

from fleet.devstack.simulator.answer_text import pieces
from fleet.devstack.simulator.calls import Answer, Call


def body(call: Call, answer: Answer, number: str) -> dict[str, Any]:
    """A chat completion."""
    refused = answer.finish == "refusal"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused else answer.text,
        "refusal": answer.text if refused else None,
        "annotations": [],
    }
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}],
        "usage": _usage(call, answer),
        "service_tier": "default",
        "system_fingerprint": "fp_simulator",
    }


def _finish(answer: Answer) -> str:
    return "length" if answer.finish == "length" else "stop"


def _usage(call: Call, answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": call.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": call.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.thinking_tokens, "audio_tokens": 0},
    }


def events(call: Call, answer: Answer, number: str, *, with_usage: bool) -> list[bytes]:
    """The stream of a chat completion."""
    head = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": call.model,
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    chunks = [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": piece}) for piece in pieces(answer.text)),
        chunk({}, _finish(answer)),
    ]
    if with_usage:
        chunks.append(head | {"choices": [], "usage": _usage(call, answer)})
    return [
        *(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in chunks),
        b"data: [DONE]\n\n",
    ]
