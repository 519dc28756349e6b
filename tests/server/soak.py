"""Many streams at once, some of them cancelled and some read slowly, on the base and on adapters: every answer is that of the same request
alone, nothing is left behind, and the server's memory stays flat.

    soak.py [--seconds 20] [--streams 64] [--clients 256: so many at once, waiting ones included]
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import signal
import sys
import tempfile

import httpx
from demo_adapter import make_adapter
from server_process import Server

NUM_REQUESTS = 48  # different ones
ADAPTERS = {"tuned": 0.01, "retuned": 0.02}  # by learning rate
QUESTIONS = ["What is 2 + 3?", "Write a Triton kernel that adds two vectors.", "Hello", "import torch\n\nclass Model(torch.nn.Module):\n"]


def requests():
    rng = random.Random(3)
    return [
        {
            "model": rng.choice(["demo", *ADAPTERS]),
            "messages": [{"role": "user", "content": rng.choice(QUESTIONS) * rng.randint(1, 6)}],
            "temperature": rng.choice([0, 0.7, 1.2]),
            "seed": i,
            "max_tokens": rng.randint(1, 96),
            "stream": True,
        }
        for i in range(NUM_REQUESTS)
    ]


async def stream(client, body, rng=None, cancel_after=None):
    """The text, and whether it is whole. With `rng` the reader is slow at times."""
    text = ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        if reply.status_code != 200:
            raise RuntimeError(f"{reply.status_code}: {await reply.aread()}")
        num_events = 0
        async for line in reply.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                return text, True
            event = json.loads(line[6:])
            for choice in event["choices"]:
                delta = choice["delta"]
                text += (delta.get("reasoning") or "") + (delta.get("content") or "")
            num_events += 1
            if cancel_after is not None and num_events >= cancel_after:
                return text, False
            if rng is not None and rng.random() < 0.2:
                await asyncio.sleep(rng.random() / 2)
    raise RuntimeError("a stream ended without [DONE]")


async def soak(url, seconds, num_clients, resident_bytes):
    counts = collections.Counter()
    limits = httpx.Limits(max_connections=num_clients + 8)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
        bodies = requests()
        alone = [(await stream(client, body))[0] for body in bodies]
        assert len(set(alone)) > NUM_REQUESTS // 2, "the requests are hardly different"
        end = asyncio.get_running_loop().time() + seconds
        resident = []

        async def one_client(idx):
            rng = random.Random(idx)
            while asyncio.get_running_loop().time() < end:
                i = rng.randrange(NUM_REQUESTS)
                cancel_after = rng.randint(1, 20) if rng.random() < 0.25 else None
                is_slow = rng.random() < 0.2
                text, is_whole = await stream(client, bodies[i], rng if is_slow else None, cancel_after)
                counts["slow"] += is_slow
                if text != alone[i] if is_whole else not alone[i].startswith(text):
                    raise AssertionError(f"request {i}: {text!r} where it answered {alone[i]!r} alone")
                counts["whole" if is_whole else "cancelled"] += 1

        async def watch_memory():
            while True:
                resident.append(resident_bytes())
                await asyncio.sleep(seconds / 20)

        watch = asyncio.create_task(watch_memory())
        await asyncio.gather(*(one_client(i) for i in range(num_clients)))
        watch.cancel()
        # Nothing runs or waits any more: what was cancelled has given its place back.
        for _ in range(100):
            metrics = (await client.get("/metrics")).text
            left = [line for line in metrics.splitlines() if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting"))]
            if left and all(float(line.split()[-1]) == 0 for line in left):
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(f"requests are left: {left}")
    # The first third warms caches and arenas up.
    early, late = max(resident[: len(resident) // 3 + 1]), resident[-1]
    start, middle = resident[0], resident[len(resident) // 2]
    print(f"{counts['whole']} answers equal to their solo runs, {counts['cancelled']} cancelled, {counts['slow']} read slowly; resident MiB: "
          f"{start / 2**20:.0f} at the start, {early / 2**20:.0f} after a third, {middle / 2**20:.0f} half-way, {late / 2**20:.0f} at the end")
    assert late < early + 64 * 2**20, "memory grows"
    assert counts["whole"] > num_clients and counts["cancelled"] > 0, counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--clients", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        adapters = []
        for name, learning_rate in ADAPTERS.items():
            (pathlib.Path(folder) / name).mkdir()
            adapters += ["--lora", f"{name}={make_adapter(pathlib.Path(folder) / name, learning_rate)}"]
        with Server("--max-num-seqs", str(options.streams), "--max-model-len", "1024", "--no-access-log", *adapters) as server:
            asyncio.run(soak(server.url, options.seconds, options.clients, server.resident_bytes))
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
