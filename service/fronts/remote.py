"""A front end's answers to requests: tokens to the engine process, packed answers back.

Stands where `service.inference.Inference` stands without front ends. What is not plainly a good request (no
key, an unknown model, a text too long) is forwarded as it came: who is refused, why, and how it is counted is
decided by the engine process alone. What is sent is `preparing`'s. Made by `front_end`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter
from typing import Any, TypeVar

from grpc import StatusCode

from minwatt.v1.inference_pb2 import ClassifyResponse, ExtractEntitiesResponse, Usage
from service.calls import Call
from service.fronts import messages, records
from service.fronts.channel import Channel
from service.fronts.messages import CONTEXT_KEYS, CREDENTIAL_KEYS, Forwarded, Left, Replied, refusal_of
from service.fronts.preparing import Preparing, response_of, shown, submission
from service.fronts.records import Answer, OipCounted, RefusedAnswer, RefusedHere
from service.fronts.told import Told
from service.inference import Arrival
from service.logs import about
from service.replies import AnyRequest, AnyResponse
from service.request import Cost
from service.statuses import Refusal, internal, queue_full, unavailable
from service.wire import Unreadable

RETRY_FULL_S = 0.1
MOST_UNSENT_BYTES = 64 * 1024 * 1024  # that the engine process has not read; then nothing more is forwarded
RETRY_ENGINE_S = 1.0  # what it takes to start, or to notice that it can't

T = TypeVar("T")

log = logging.getLogger(__name__)


class Remote:
    """One per front end. Without an engine process everything is refused with UNAVAILABLE.

    Holds `max_in_flight` requests at most: the replica lets in no more, so the others are refused here.
    """

    def __init__(self, max_texts: int, default_deadline_s: float, max_in_flight: int) -> None:
        self._default_deadline_s = default_deadline_s
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._channel: Channel | None = None
        self._told: Told | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._replies: dict[int, asyncio.Future[bytes]] = {}
        self._refused_here: Counter[tuple[str, str, StatusCode]] = Counter()  # not yet told
        self._preparing = Preparing(max_texts)

    # -- the engine process

    def attach(self, channel: Channel) -> None:
        self._channel = channel

    def follow(self, told: Told) -> None:
        """From here on requests go by this state."""
        self._told = told
        if self._channel is not None:
            self._channel.send(records.seen(told.world.version))
            self._tell_refused()

    def detach(self) -> None:
        """The engine process has ended: so have all calls that it had."""
        self._channel = self._told = None
        waiting: list[asyncio.Future[Any]] = [*self._answers.values(), *self._replies.values()]
        self._answers.clear()
        self._replies.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(_engine_ended())

    def record(self, record: bytes) -> None:
        """An answer has come. Raises what it likes where it is none: its client still waits then."""
        one = records.to_front(record)
        outcome = refusal_of(one.reason, one.status) if isinstance(one, RefusedAnswer) else one
        _settle(self._answers.pop(one.id, None), outcome)

    def replied(self, one: Replied) -> None:
        outcome = refusal_of(*one.refusal) if one.message is None else one.message
        _settle(self._replies.pop(one.id, None), outcome)

    @property
    def serving(self) -> bool:
        """There is an engine process, and it says so."""
        return self._told is not None and self._told.world.serving

    # -- as `Inference`

    def arrival(self, method: str, call: Call | None, timeout_s: float | None = None) -> Arrival:
        now_s = time.monotonic()
        left_s = None if call is None else call.timeout_s
        if left_s is None or (timeout_s is not None and timeout_s < left_s):
            left_s = timeout_s
        deadline_s = now_s + (self._default_deadline_s if left_s is None else left_s)
        return Arrival(method, now_s, deadline_s, call)

    async def answer(self, message: AnyRequest | Unreadable, arrival: Arrival) -> AnyResponse:
        """Raises Refusal."""
        if self._in_flight >= self._max_in_flight:
            raise self._refused(arrival.method, self._full())
        self._in_flight += 1
        try:
            return await self._answered(message, arrival)
        except (Refusal, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("%s failed", arrival.method, extra=about(arrival.call, {}))
            failed = internal(f"unexpected {type(error).__name__}")
            raise self._refused(arrival.method, failed) from error
        finally:
            self._in_flight -= 1

    async def _answered(self, message: AnyRequest | Unreadable, arrival: Arrival) -> AnyResponse:
        if isinstance(message, Unreadable):
            refusal = message.refusal
            status = refusal.status().SerializeToString()
            await self._forward("unreadable", arrival.method, arrival, status, reason=refusal.reason)
            raise refusal  # as the line above has done
        while True:
            told, channel = self._told, self._channel
            if told is None or channel is None:
                raise self._refused(arrival.method, _engine_ended())
            prepared = await self._preparing.prepared(told, message, arrival)
            if told is self._told:  # else its model may be gone by now
                break
        record = b""
        if prepared is not None:
            id_ = next(self._ids)
            record = submission(id_, prepared, message, arrival)
        if prepared is None or len(record) > channel.most_bytes:
            name = message.DESCRIPTOR.name
            body = message.SerializeToString()
            body_of_reply = await self._forward("ask", arrival.method, arrival, body, message_type=name)
            response = ClassifyResponse if name == "ClassifyRequest" else ExtractEntitiesResponse
            forwarded = response.FromString(body_of_reply)
            arrival.cost = _cost_of(forwarded.usage)
            return forwarded
        if not channel.offer(record):
            raise self._refused(arrival.method, _unread())
        if self._refused_here:
            self._tell_refused()
        future = self._answers[id_] = asyncio.get_running_loop().create_future()
        try:
            answer = await future
        except asyncio.CancelledError:
            self._answers.pop(id_, None)
            channel.send(records.withdrawn(id_))
            raise
        arrival.cost = answer.cost
        return response_of(prepared, message, answer)

    # -- what else there is

    async def forward(self, path: str, message: bytes, call: Call) -> bytes:
        """A call that the engine process answers. Raises Refusal."""
        left_s = call.timeout_s
        deadline_s = None if left_s is None else time.monotonic() + left_s
        arrival = Arrival(path, time.monotonic(), 0.0, call)
        if self._in_flight >= self._max_in_flight:
            raise self._full()
        self._in_flight += 1
        try:
            return await self._forward("call", path, arrival, message, deadline_s=deadline_s)
        finally:
            self._in_flight -= 1

    def count_oip(self, one: OipCounted) -> None:
        if self._channel is not None:
            self._channel.send(records.oip_counted(one))

    def close(self) -> None:
        self._preparing.close()

    # -- forwarding

    async def _forward(
        self,
        kind: messages.ForwardedKind,
        method: str,
        arrival: Arrival,
        body: bytes,
        deadline_s: float | None = None,
        message_type: str = "",
        reason: str = "",
    ) -> bytes:
        channel, call = self._channel, arrival.call
        if channel is None or channel.unsent_bytes > MOST_UNSENT_BYTES:  # of clients that have left, too
            refusal = _engine_ended() if channel is None else _unread()
            raise self._refused(method, refusal) if kind != "call" else refusal
        id_ = next(self._ids)
        forwarded = Forwarded(
            id_,
            kind,
            method,
            message_type,
            reason,
            arrival.arrived_s,
            deadline_s if kind == "call" else arrival.deadline_s,
            shown(call, (*CONTEXT_KEYS, *CREDENTIAL_KEYS)),
            None if call is None else call.peer_identity,
        )
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._replies[id_] = future
        channel.send_message(*messages.for_engine(forwarded, body))
        try:
            return await future
        except asyncio.CancelledError:
            self._replies.pop(id_, None)
            channel.send_message(*messages.for_engine(Left(id_)))
            raise

    def _full(self) -> Refusal:
        return queue_full(f"{self._max_in_flight} requests in flight", RETRY_FULL_S)

    def _refused(self, method: str, refusal: Refusal) -> Refusal:
        """The engine process learns of it when it can."""
        self._refused_here[method, refusal.reason, refusal.code] += 1
        return refusal

    def _tell_refused(self) -> None:
        assert self._channel is not None  # noqa: S101 - its caller's matter
        for (method, reason, code), count in self._refused_here.items():
            self._channel.send(records.refused_here(RefusedHere(method, count, reason, code.value[0])))
        self._refused_here.clear()


def _settle(future: asyncio.Future[T] | None, outcome: T | Refusal) -> None:
    if future is None or future.done():
        return  # its client has left
    if isinstance(outcome, Refusal):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _cost_of(usage: Usage) -> Cost:
    """Of what was answered as it came; what the cache took is not told."""
    return Cost(
        usage.tokens,
        usage.queue_seconds,
        usage.compute_seconds,
        usage.batch_size,
        usage.energy_joules if usage.HasField("energy_joules") else None,
        usage.cached_texts,
    )


def _engine_ended() -> Refusal:
    message = "the engine process has ended or is starting"
    return unavailable("starting", message, RETRY_ENGINE_S)


def _unread() -> Refusal:
    return queue_full("the engine process has not read what came before", RETRY_FULL_S)
