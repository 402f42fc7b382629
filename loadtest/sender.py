"""Sends a plan open loop: each request leaves at its planned time, whatever became of those before it.

Owns the channels, the clock of the run and the reading of answers. A slow server never slows the plan
down: latency counts from the planned time, and where the sender itself is late (this process out of CPU,
or `max_outstanding` reached) the outcome's `lag_s` says so. Retries are those of `minwatt.client`, within
the request's deadline. Leaves what to send to `plan` and all arithmetic to `summary`. Called by `replay`
and by `minwatt profile`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc
from google.protobuf.message import DecodeError

from loadtest.outcomes import Outcome, Result
from loadtest.plan import Payload, Plan, Task
from minwatt.channels import ANYBODY, CHANNEL_OPTIONS, Identity
from minwatt.v1 import inference_pb2
from minwatt.v1.errors import UsageError

_SERVICE = "minwatt.v1.TextInference"
_METHODS = {Task.CLASSIFY: f"/{_SERVICE}/Classify", Task.EXTRACT: f"/{_SERVICE}/ExtractEntities"}
_REPLIES: dict[Task, type[inference_pb2.ClassifyResponse | inference_pb2.ExtractEntitiesResponse]] = {
    Task.CLASSIFY: inference_pb2.ClassifyResponse,
    Task.EXTRACT: inference_pb2.ExtractEntitiesResponse,
}
_REFUSALS = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
_TURNED_AWAY = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_STATUS_DETAILS_KEY = "grpc-status-details-bin"
# So that an arrival planned for zero is not late before it starts.
_HEAD_START_S = 0.05

_Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How to send. `deadline_s` counts from the moment a request is sent, retries included; a plan may
    have its own."""

    deadline_s: float = 1.0
    connections: int = 16  # each a TCP connection of its own, taken in turn
    max_outstanding: int = 4096  # requests sent and not answered; more wait, and count as lag
    connect_timeout_s: float = 10.0
    progress_interval_s: float = 0.5
    identity: Identity = ANYBODY


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is; counts since its start."""

    at_s: float
    planned: int
    sent: int
    completed: int
    refused: int
    failed: int
    lag_s: float  # the largest so far
    last_outcomes: tuple[Outcome, ...]  # of what was answered since the last progress


class Start(NamedTuple):
    """The plan's zero, by two clocks."""

    monotonic_s: float
    unix_s: float


async def soon() -> Start:
    return Start(time.monotonic() + _HEAD_START_S, time.time() + _HEAD_START_S)


@dataclass(frozen=True, slots=True)
class SendResult:
    """`outcomes` are in planned order, one for each request sent: the whole plan unless stopped early."""

    outcomes: list[Outcome]
    started_unix_s: float
    stopped_at_s: float | None  # seconds from the start at which the caller stopped the run


@dataclass
class _Run:
    """The state of one run, touched only on its event loop."""

    plan: Plan
    options: SendOptions
    calls: list[dict[Task, _Call]]  # one a connection
    start_s: float  # time.monotonic() of the plan's zero
    outcomes: list[Outcome | None]
    stop: asyncio.Event
    counts: dict[Result, int] = field(default_factory=lambda: dict.fromkeys(Result, 0))
    sent: int = 0
    lag_s: float = 0.0
    answered: list[Outcome] = field(default_factory=list)  # since the last progress
    room: asyncio.Event = field(default_factory=asyncio.Event)
    turned_away: str = ""  # the server's words, where it knows nobody of this name

    @property
    def outstanding(self) -> int:
        return self.sent - sum(self.counts.values())

    def now_s(self) -> float:
        return time.monotonic() - self.start_s


async def send(
    plan: Plan,
    target: str,
    options: SendOptions = SendOptions(),
    on_progress: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
    started: Callable[[], Awaitable[Start]] = soon,
) -> SendResult:
    """Sends the whole plan to `target` (host:port) and waits for every answer and for the end of its span.

    `on_progress` is called every `progress_interval_s` and at the end. Setting `stop` ends the sending; what
    is under way is still answered. `started` is asked for the plan's zero once all channels are connected.
    Raises UsageError when nothing answers at `target`, or nobody is let in who comes with this identity.
    """
    async with _channels(target, options) as channels:
        calls = [_methods(channel) for channel in channels]
        start = await started()
        run = _Run(
            plan,
            options,
            calls,
            start.monotonic_s,
            [None] * len(plan),
            stop or asyncio.Event(),
        )
        progress = asyncio.create_task(_report_progress(run, on_progress)) if on_progress else None
        try:
            stopped_at_s = await _send_all(run)
        finally:
            if progress:
                progress.cancel()
        if on_progress:
            on_progress(_progress(run))
    if run.turned_away:
        raise UsageError(f"--target = {target!r}: {run.turned_away}; nothing was measured")
    return SendResult([outcome for outcome in run.outcomes if outcome], start.unix_s, stopped_at_s)


async def _send_all(run: _Run) -> float | None:
    """Starts each request at its time; returns when all are answered, with the time of a stop, if any."""
    planned_s, choices = run.plan.planned_s.tolist(), run.plan.choices.tolist()
    stopping = asyncio.create_task(run.stop.wait())
    try:
        async with asyncio.TaskGroup() as under_way:
            for index, (at_s, choice) in enumerate(zip(planned_s, choices, strict=True)):
                await _until(run, at_s, stopping)
                if stopping.done():
                    return run.now_s()
                run.sent += 1
                under_way.create_task(_request(run, index, at_s, run.plan.payloads[choice]))
            await _until(run, run.plan.duration_s, stopping)
            return run.now_s() if stopping.done() else None
    finally:
        stopping.cancel()


async def _until(run: _Run, at_s: float, stopping: asyncio.Task[bool]) -> None:
    """Returns at the planned time and with room for one more request, or when the run is stopped."""
    wait_s = at_s - run.now_s()
    if wait_s > 1.0:  # a long silence: wake up for a stop
        await asyncio.wait([stopping], timeout=wait_s)
    elif wait_s > 0:
        await asyncio.sleep(wait_s)
    while run.outstanding >= run.options.max_outstanding and not stopping.done():
        run.room.clear()
        await run.room.wait()


def _methods(channel: grpc.aio.Channel) -> dict[Task, _Call]:
    # Without serializers bytes go out and come in as they are.
    calls: dict[Task, _Call] = {task: channel.unary_unary(path) for task, path in _METHODS.items()}
    return calls


async def _request(run: _Run, index: int, planned_s: float, payload: Payload) -> None:
    call = run.calls[index % len(run.calls)][payload.task]
    sent_s = run.now_s()
    run.lag_s = max(run.lag_s, sent_s - planned_s)
    deadlines_s = run.plan.deadlines_s
    deadline_s = run.options.deadline_s if deadlines_s is None else float(deadlines_s[index])
    try:
        metadata = run.options.identity.metadata
        reply = await call(payload.request, timeout=deadline_s, metadata=metadata)
        latency_s = run.now_s() - planned_s
        outcome = _completed(payload, planned_s, sent_s, latency_s, reply)
    except grpc.aio.AioRpcError as error:
        latency_s = run.now_s() - planned_s
        outcome = _not_completed(payload, planned_s, sent_s, latency_s, error)
        if error.code() in _TURNED_AWAY and not run.counts[Result.COMPLETED]:
            # Never let in: that is a mistake in the options. Once let in, it is an event to be counted.
            run.turned_away = f"{outcome.status}: {outcome.detail}"
            run.stop.set()
    except DecodeError as error:
        latency_s = run.now_s() - planned_s
        # As gRPC's own deserializer would say; other servers than minwatt's may answer at the target.
        what, code, detail = payload.task.value, grpc.StatusCode.INTERNAL.name, f"no readable reply: {error}"
        outcome = Outcome(planned_s, sent_s, latency_s, what, payload.texts, Result.FAILED, code, detail)
    run.outcomes[index] = outcome
    run.counts[outcome.result] += 1
    run.answered.append(outcome)
    run.room.set()


def _completed(payload: Payload, planned_s: float, sent_s: float, latency_s: float, reply: bytes) -> Outcome:
    usage = _REPLIES[payload.task].FromString(reply).usage
    return Outcome(
        planned_s,
        sent_s,
        latency_s,
        payload.task.value,
        payload.texts,
        Result.COMPLETED,
        grpc.StatusCode.OK.name,
        server_queue_s=usage.queue_seconds,
        server_compute_s=usage.compute_seconds,
        batch_size=usage.batch_size,
        tokens=usage.tokens,
        energy_j=usage.energy_joules if usage.HasField("energy_joules") else None,
        energy_source=usage.energy_source,
    )


def _not_completed(
    payload: Payload, planned_s: float, sent_s: float, latency_s: float, error: grpc.aio.AioRpcError
) -> Outcome:
    # The same codes come from this side's own deadline and limits too: those carry no details.
    answered = any(key == _STATUS_DETAILS_KEY for key, _ in error.trailing_metadata() or ())
    refused = answered and error.code() in _REFUSALS
    result = Result.REFUSED if refused else Result.FAILED
    code, detail = error.code().name, error.details() or ""
    return Outcome(planned_s, sent_s, latency_s, payload.task.value, payload.texts, result, code, detail)


@contextlib.asynccontextmanager
async def _channels(target: str, options: SendOptions) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Connected channels, each a connection of its own: a run measures requests, not the first handshakes."""
    who = options.identity
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(_channel(target, who)) for _ in range(options.connections)
        ]
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                await asyncio.gather(*(channel.channel_ready() for channel in channels))
        except TimeoutError:
            expected = "HOST:PORT (one that speaks TLS needs --tls-ca or --tls)"
            if who.credentials is not None:
                expected = (
                    "HOST:PORT that speaks TLS with a certificate that is trusted and has this name, "
                    "and that takes this client's certificate"
                )
            raise UsageError(
                f"--target = {target!r}: nothing answered within {options.connect_timeout_s:g} s;"
                f" expected a running server's {expected}"
            ) from None
        yield channels


def _channel(target: str, who: Identity) -> grpc.aio.Channel:
    options = [*CHANNEL_OPTIONS, *who.options]
    if who.credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, who.credentials, options)


async def _report_progress(run: _Run, on_progress: Callable[[Progress], None]) -> None:
    while True:
        await asyncio.sleep(run.options.progress_interval_s)
        on_progress(_progress(run))


def _progress(run: _Run) -> Progress:
    answered, run.answered = tuple(run.answered), []
    return Progress(
        run.now_s(),
        len(run.plan),
        run.sent,
        run.counts[Result.COMPLETED],
        run.counts[Result.REFUSED],
        run.counts[Result.FAILED],
        run.lag_s,
        answered,
    )
