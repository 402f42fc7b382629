"""Real requests over real sockets, to a server that answers, stalls, refuses or fails as it is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc.status_pb2 import Status

from loadtest.identity import IdentityOptions
from loadtest.outcomes import Result
from loadtest.plan import Payload, Plan, Task, payload
from loadtest.sender import Progress, SendOptions, send
from loadtest.senders import send_by_processes
from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.errors import UsageError
from minwatt.v1.inference_pb2_grpc import TextInferenceServicer, add_TextInferenceServicer_to_server

Context = grpc.aio.ServicerContext[object, object]
Behaviour = Callable[[Context], Awaitable[None]]
USAGE = pb.Usage(
    tokens=9,
    queue_seconds=0.001,
    compute_seconds=0.002,
    batch_size=2,
    energy_joules=0.5,
    energy_source="modelled",
)


class ScriptedServer(TextInferenceServicer):
    """Answers each request after its behaviour let it."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.texts: list[str] = []
        self.peers: set[str] = set()
        self.begun = asyncio.Event()  # a request has come

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:  # noqa: N802
        await self._take(request, context)
        return pb.ClassifyResponse(usage=USAGE)

    async def ExtractEntities(  # noqa: N802
        self, request: pb.ExtractEntitiesRequest, context: Context
    ) -> pb.ExtractEntitiesResponse:
        await self._take(request, context)
        return pb.ExtractEntitiesResponse(usage=USAGE)

    async def _take(self, request: pb.ClassifyRequest | pb.ExtractEntitiesRequest, context: Context) -> None:
        self.texts += request.texts
        self.peers.add(context.peer())
        self.begun.set()
        await self.behaviour(context)


async def answer(context: Context) -> None:
    """At once."""


@asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[tuple[ScriptedServer, str]]:
    servicer, server = ScriptedServer(behaviour), grpc.aio.server()
    add_TextInferenceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def evenly(rate_rps: float, duration_s: float, payloads: list[Payload] | None = None) -> Plan:
    planned_s = np.arange(0, duration_s, 1 / rate_rps)
    sent = payloads or [payload(Task.CLASSIFY, ["where is my card?"])]
    return Plan(planned_s, np.arange(len(planned_s)) % len(sent), sent, duration_s)


async def test_every_request_is_sent_once_and_its_answer_recorded() -> None:
    sent = [payload(task, [f"{task} {number}"]) for number in range(5) for task in Task]
    seen: list[Progress] = []
    async with serving(answer) as (server, target):
        options = SendOptions(connections=4, progress_interval_s=0.05)
        result = await send(evenly(100, 0.5, sent), target, options, seen.append)
    assert len(server.peers) == 4
    assert sorted(server.texts) == sorted(
        f"{task} {number}" for number in range(5) for task in Task for _ in range(5)
    )
    assert [outcome.planned_s for outcome in result.outcomes] == pytest.approx(np.arange(0, 0.5, 0.01))
    for outcome in result.outcomes:
        assert (outcome.result, outcome.batch_size, outcome.energy_j) == (Result.COMPLETED, 2, 0.5)
        assert outcome.server_s == pytest.approx(0.003)
        assert outcome.sent_s >= outcome.planned_s
        assert outcome.latency_s >= outcome.lag_s
    assert seen[-1].completed == seen[-1].sent == 50
    assert sum(len(progress.last_outcomes) for progress in seen) == 50


async def test_a_stalled_server_does_not_hold_the_load_back_and_every_wait_is_counted() -> None:
    stall_s, opened, arrived = 0.6, asyncio.Event(), 0

    async def stall(context: Context) -> None:
        nonlocal arrived
        arrived += not opened.is_set()
        await opened.wait()

    async with serving(stall) as (server, target):
        sending = asyncio.create_task(send(evenly(100, 1.0), target, SendOptions(deadline_s=10.0)))
        await server.begun.wait()
        await asyncio.sleep(stall_s)
        opened.set()
        result = await sending
    # A sender that waits for answers would have met the stall with one request.
    waited = [outcome for outcome in result.outcomes if outcome.latency_s > stall_s / 3]
    assert arrived > 20
    assert len(waited) > 20
    assert {outcome.result for outcome in result.outcomes} == {Result.COMPLETED}


async def test_where_the_sender_must_wait_the_wait_is_lag_and_counts_as_latency() -> None:
    async def slow(context: Context) -> None:
        await asyncio.sleep(0.05)

    async with serving(slow) as (_, target):
        result = await send(evenly(100, 0.3), target, SendOptions(max_outstanding=1))
    assert len(result.outcomes) == 30
    assert result.outcomes[-1].lag_s > 0.5  # 30 × 50 ms one after another, planned within 300 ms
    assert all(outcome.latency_s > outcome.lag_s for outcome in result.outcomes)


async def test_refused_is_what_the_server_explained_and_failed_is_the_rest() -> None:
    explained = (("grpc-status-details-bin", Status(code=8, message="queue full").SerializeToString()),)
    script: list[tuple[grpc.StatusCode, tuple[tuple[str, bytes], ...]]] = [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, explained),
        (grpc.StatusCode.DEADLINE_EXCEEDED, explained),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ()),
        (grpc.StatusCode.INVALID_ARGUMENT, explained),
    ]
    steps = iter(script)

    async def refuse(context: Context) -> None:
        code, details = next(steps)
        await context.abort(code, "no", details)

    async with serving(refuse) as (_, target):
        result = await send(evenly(20, 0.2), target, SendOptions(connections=1))
    found = [(outcome.status, outcome.result) for outcome in result.outcomes]
    assert found == [
        ("RESOURCE_EXHAUSTED", Result.REFUSED),
        ("DEADLINE_EXCEEDED", Result.REFUSED),
        ("RESOURCE_EXHAUSTED", Result.FAILED),
        ("INVALID_ARGUMENT", Result.FAILED),
    ]
    assert {outcome.detail for outcome in result.outcomes} == {"no"}


async def test_a_request_past_its_deadline_failed_and_one_that_could_be_retried_did_not() -> None:
    tries = 0

    async def hang(context: Context) -> None:
        await asyncio.sleep(5)

    async def recover(context: Context) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    async with serving(hang) as (_, target):
        hung = await send(evenly(10, 0.1), target, SendOptions(deadline_s=0.2))
    assert [(outcome.status, outcome.result) for outcome in hung.outcomes] == [
        ("DEADLINE_EXCEEDED", Result.FAILED)
    ]
    async with serving(recover) as (_, target):
        recovered = await send(evenly(10, 0.1), target, SendOptions(deadline_s=5.0))
    assert [outcome.result for outcome in recovered.outcomes] == [Result.COMPLETED]
    assert tries == 3


async def test_nothing_at_the_target_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"nothing answered within 0\.3 s"):
        await send(evenly(10, 0.1), "127.0.0.1:9", SendOptions(connect_timeout_s=0.3))


async def minwatt_replay(*flags: str, interrupt: asyncio.Event | None = None) -> tuple[int | None, str, str]:
    """`interrupt`: Ctrl-C once that is set, which a terminal sends to all processes of the command."""
    command = (sys.executable, "-m", "minwatt", "replay", *flags)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    if interrupt is not None:
        await interrupt.wait()
        os.killpg(process.pid, signal.SIGINT)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_command_records_reports_and_compares_runs(tmp_path: Path) -> None:
    log = tmp_path / "log" / "fleet.jsonl"
    log.parent.mkdir()

    async def write_log() -> None:
        joules = 0.0
        with log.open("w") as file:
            while True:
                row = {
                    "at_s": time.time(),
                    "replicas_ready": 1,
                    "watts_source": "modelled",
                    "joules_total": joules,
                }
                file.write(json.dumps(row) + "\n")
                file.flush()
                joules += 1.0
                await asyncio.sleep(0.25)

    async with serving(answer) as (_, target):
        writing = asyncio.create_task(write_log())
        flags = ["--target", target, "--generate", "poisson", "--peak-rps", "50", "--duration", "1.5s"]
        flags += ["--slo", "5s", "--out", str(tmp_path / "out"), "--fleet-log", str(log)]
        first = await minwatt_replay(*flags, "--name", "fixed")
        second = await minwatt_replay(*flags, "--name", "minwatt", "--json")
        writing.cancel()
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "modelled" in first[1]
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert json.loads(second[1]) == report
    fixed, scaled = report["runs"]
    assert (fixed["name"], scaled["name"]) == ("fixed", "minwatt")
    assert fixed["requests"] == scaled["requests"] == scaled["completed"] > 30
    assert scaled["energy_basis"] == "whole fleet, idle included"
    assert 0 < scaled["energy_j"] <= 7
    (tmp_path / "out/report.json").unlink()
    assert (await minwatt_replay("--report-only", "--out", str(tmp_path / "out")))[0] == 0
    again = json.loads((tmp_path / "out/report.json").read_text())
    assert again["provenance"].pop("command") != report["provenance"].pop("command")
    assert again["provenance"].pop("made_at")
    assert report["provenance"].pop("made_at")
    assert again == report


async def test_the_command_says_with_its_exit_code_that_requests_failed() -> None:
    async def fail(context: Context) -> None:
        await context.abort(grpc.StatusCode.INTERNAL, "broken")

    async with serving(fail) as (_, target):
        flags = ["--target", target, "--generate", "constant", "--peak-rps", "20", "--duration", "500ms"]
        code, out, err = await minwatt_replay(*flags)
    assert code == 1
    assert "10 requests failed (INTERNAL 10)" in err
    assert "Traceback" not in err
    assert "failed" in out


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_ctrl_c_ends_the_sending_and_keeps_what_was_measured(processes: str, tmp_path: Path) -> None:
    async with serving(answer) as (server, target):
        flags = ["--target", target, "--generate", "constant", "--peak-rps", "20", "--duration", "10m"]
        flags += ["--out", str(tmp_path), "--name", "cut", "--processes", processes]
        code, _, err = await minwatt_replay(*flags, interrupt=server.begun)
    assert code == 1, err
    assert "cut: stopped after" in err
    (run,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert run["completed"] == run["requests"] > 0


async def test_what_would_lose_a_run_at_its_end_is_found_before_a_request_is_sent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with serving(answer) as (server, target):
        flags = ["--target", target, "--generate", "constant", "--peak-rps", "20", "--duration", "10m"]
        for wrong in (["--fleet-log", str(tmp_path / "absent.jsonl")], ["--out", str(tmp_path / "file")]):
            code, _, err = await minwatt_replay(*flags, *wrong)
            assert code == 2
            assert err.count("\n") == 1
            assert wrong[1] in err
    assert server.texts == []


async def test_a_reply_that_is_no_reply_is_a_failed_request() -> None:
    handler = grpc.unary_unary_rpc_method_handler(garbled)
    server = grpc.aio.server()
    methods = {"Classify": handler}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("minwatt.v1.TextInference", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    result = await send(evenly(20, 0.2), f"127.0.0.1:{port}", SendOptions(connections=1))
    await server.stop(None)
    assert [outcome.result for outcome in result.outcomes] == [Result.FAILED] * 4
    assert {outcome.status for outcome in result.outcomes} == {"INTERNAL"}


async def garbled(request: bytes, context: Context) -> bytes:
    return b"\xff\xff no message"


async def test_a_mistake_is_one_line_and_exit_code_2() -> None:
    code, out, err = await minwatt_replay(
        "--target", "127.0.0.1:1", "--generate", "poisson", "--peak-rps", "-3"
    )
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "--peak-rps = -3.0" in err


async def test_two_processes_send_a_plan_together() -> None:
    plan = evenly(100, 0.4, [payload(Task.CLASSIFY, [f"{number}"]) for number in range(40)])
    async with serving(answer) as (server, target):
        seen: list[Progress] = []
        options = SendOptions(connections=4, progress_interval_s=0.1)
        result = await send_by_processes(plan, target, options, IdentityOptions(), 2, seen.append)
    assert sorted(server.texts) == sorted(f"{number}" for number in range(40))
    assert len(server.peers) == 4
    assert [outcome.planned_s for outcome in result.outcomes] == plan.planned_s.tolist()
    assert {outcome.result for outcome in result.outcomes} == {Result.COMPLETED}
    assert (seen[-1].sent, sum(len(progress.last_outcomes) for progress in seen)) == (40, 40)


async def test_a_breach_ends_a_run_that_would_go_on() -> None:
    async def fail(context: Context) -> None:
        await context.abort(grpc.StatusCode.INTERNAL, "no")

    async with serving(fail) as (_, target):
        load = ["--generate", "poisson", "--peak-rps", "100", "--duration", "1h", "--processes", "2"]
        replay = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "minwatt", "replay", "--target", target, *load, "--abort-over", "0.5"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await replay.communicate()
    assert replay.returncode == 1
    assert "answers were refused or failed: more than 0.5 of them" in said.decode()
