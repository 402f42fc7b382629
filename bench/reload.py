"""What a reload costs the requests meanwhile: open loop, no retries, latencies during and between reloads.

    python -m bench.reload --rate 60 --reloads 5

Serves a copy of the shipped model and gives it another version again and again. Latencies count from when a
request was due to be sent. Exit code 1 if any request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc

from minwatt.resources import default_model_dir
from minwatt.v1.inference_pb2 import ClassifyRequest
from minwatt.v1.inference_pb2_grpc import TextInferenceStub
from minwatt.v1.model_dir import MODEL_FILE, ModelDirectory

BETWEEN_S = 3.0
AFTER_S = 0.3  # the old model is closed then: that is part of the reload
TEXT = "where is my card, I have been waiting for it since monday"
READY = re.compile(r"ready: grpc (\S+) · metrics (\S+) ·")

Ended = tuple[float, float, str]  # due at, latency in seconds, status


async def offer(target: str, rate_rps: float, stop: asyncio.Event) -> list[Ended]:
    ended: list[Ended] = []
    async with grpc.aio.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
        stub = TextInferenceStub(channel)

        async def one(due_s: float) -> None:
            status = "OK"
            try:
                await stub.Classify(ClassifyRequest(texts=[TEXT]), timeout=30)
            except grpc.aio.AioRpcError as error:
                status = error.code().name
            ended.append((due_s, time.monotonic() - due_s, status))

        began_s, count = time.monotonic(), 0
        async with asyncio.TaskGroup() as requests:
            while not stop.is_set():
                due_s = began_s + count / rate_rps
                count += 1
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                requests.create_task(one(due_s))
    return ended


async def reload(model: Path, process: asyncio.subprocess.Process, metrics_url: str, count: int) -> float:
    """Seconds until the `count`th other version serves."""
    directory = ModelDirectory.open(model)
    ModelDirectory(model, directory.spec.model_copy(update={"version": f"reload-{count}"})).save()
    began_s = time.monotonic()
    process.send_signal(signal.SIGHUP)
    served = f'minwatt_model_replacements_total{{model="{directory.spec.name}"}} {float(count)}'
    while served not in await asyncio.to_thread(_page, metrics_url):  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0.05)
    return time.monotonic() - began_s


def _page(url: str) -> str:
    with urlopen(url) as page:  # noqa: S310 - the replica's own
        text: str = page.read().decode()
    return text


def told(ended: Sequence[Ended]) -> dict[str, object]:
    """Latencies of what was answered, and how many were not, by status."""
    ordered = sorted(took_s for _, took_s, status in ended if status == "OK")
    ranks = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    last = len(ordered) - 1
    at = {name: ordered[min(last, int(rank * len(ordered)))] for name, rank in ranks.items()}
    latencies_ms = {name: round(1000 * latency_s, 1) for name, latency_s in at.items()}
    return latencies_ms | {"failed": dict(Counter(status for _, _, status in ended if status != "OK"))}


async def measure(rate_rps: float, reloads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        shutil.copytree(default_model_dir(), model)
        assert (model / MODEL_FILE).is_file()  # noqa: S101 - it is shipped
        command = [sys.executable, "-m", "minwatt", "serve", "--model", str(model)]
        process = await asyncio.create_subprocess_exec(
            *(*command, "--port", "0", "--metrics-port", "0", "--slo", "1s"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe
            line = (await process.stdout.readline()).decode()
            match = READY.match(line)
            if match is None:
                sys.exit(f"the replica did not start: {line!r}")
            stop = asyncio.Event()
            offered = asyncio.create_task(offer(match[1], rate_rps, stop))
            spans: list[tuple[float, float]] = []
            for count in range(1, reloads + 1):
                await asyncio.sleep(BETWEEN_S)
                began_s = time.monotonic()
                took_s = await reload(model, process, match[2], count)
                spans.append((began_s, began_s + took_s + AFTER_S))
            await asyncio.sleep(BETWEEN_S)
            stop.set()
            ended = await offered
        finally:
            process.terminate()
            await process.wait()
    during = [one for one in ended if any(begin <= one[0] <= end for begin, end in spans)]
    between = [one for one in ended if one not in during]
    return {
        "rate_rps": rate_rps,
        "requests": len(ended),
        "reload_s": [round(end - begin - AFTER_S, 2) for begin, end in spans],
        "during": told(during),
        "between": told(between),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second")
    parser.add_argument("--reloads", type=int, default=5)
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments.rate, arguments.reloads))
    print(json.dumps(result, indent=2))  # noqa: T201 - the command's output
    sys.exit(1 if result["during"]["failed"] or result["between"]["failed"] else 0)


if __name__ == "__main__":
    main()
