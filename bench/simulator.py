"""How many calls a second the simulator answers on one core: ``python bench/simulator.py``.

The simulator gets one core for itself, the clients another. Every call is a real HTTP request over a kept
connection with a prompt of some kilobytes; the answer comes at once, so that nothing but the simulator's own
work takes time. The three wires are measured in turn, several times over, since the machine is noisy.
"""

import asyncio
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import httpx

CALLS, CLIENTS, ROUNDS = 1500, 16, 3
PROMPT = "Napiš článek o kávovarech. " * 100
KEY = "sim-bench-key"
MESSAGES = [{"role": "user", "content": PROMPT}]
WIRES = {
    "openai responses": (
        "/v1/responses",
        {"Authorization": f"Bearer {KEY}"},
        {"model": "gpt-4o", "input": PROMPT, "max_output_tokens": 800},
    ),
    "openai chat": (
        "/v1/chat/completions",
        {"Authorization": f"Bearer {KEY}"},
        {"model": "gpt-4o", "messages": MESSAGES, "max_tokens": 800},
    ),
    "anthropic": (
        "/v1/messages",
        {"x-api-key": KEY, "anthropic-version": "2023-06-01"},
        {"model": "claude-sonnet-4-6", "messages": MESSAGES, "max_tokens": 800},
    ),
    "gemini": (
        "/v1beta/models/gemini-3.5-flash-lite:generateContent",
        {"x-goog-api-key": KEY},
        {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]},
    ),
}


async def calls_a_second(base_url: str, wire: str) -> float:
    """Throughput of one wire."""
    path, headers, body = WIRES[wire]
    left = iter(range(CALLS))
    async with httpx.AsyncClient(base_url=base_url, headers=headers, trust_env=False, timeout=30) as client:

        async def caller() -> None:
            for _ in left:
                (await client.post(path, json=body)).raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CLIENTS)))
        return CALLS / (time.perf_counter() - began)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(base_url: str, pid: int) -> None:
    """Interleaved rounds over the wires, and the simulator's own account of itself."""
    async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
        for provider in ("openai", "anthropic", "gemini"):
            quick = {"provider": provider, "median_seconds": 0, "sigma": 0, "seconds_per_output_token": 0}
            (await client.put("/latency", json=quick)).raise_for_status()
            free = {"provider": provider, "rpm": None, "input_tpm": None, "output_tpm": None}
            (await client.put("/limits", json=free)).raise_for_status()
        rates: dict[str, list[float]] = {wire: [] for wire in WIRES}
        cpu: dict[str, list[float]] = {wire: [] for wire in WIRES}
        for _ in range(ROUNDS):
            for wire in WIRES:
                before = cpu_seconds(pid)
                rates[wire].append(await calls_a_second(base_url, wire))
                cpu[wire].append((cpu_seconds(pid) - before) / CALLS)
                (await client.delete("/ledger")).raise_for_status()
        for wire, found in rates.items():
            each = median(cpu[wire]) * 1000
            print(
                f"{wire:18} {median(found):6.0f} calls/s   {each:5.2f} ms of CPU a call: {1000 / each:5.0f} a core"
            )
        stats = (await client.get("/stats")).json()
        own = stats["overhead_seconds_per_call"] * 1000
        print(f"by its own account {own:.2f} ms a call ({stats['calls']} calls)")


def main() -> None:
    """Start a simulator on one core, measure from the others, end it."""
    cores = sorted(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {len(cores)} cores, Python {platform.python_version()}")
    port = 18_910
    process = subprocess.Popen([sys.executable, "-m", "fleet.devstack.simulator", "--port", str(port)])
    try:
        os.sched_setaffinity(process.pid, {cores[0]})
        os.sched_setaffinity(0, set(cores[1:]) or {cores[0]})
        base_url = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=10), trust_env=False) as client:
            client.get(f"{base_url}/health")
        asyncio.run(measure(base_url, process.pid))
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
