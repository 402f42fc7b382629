"""The engine process's side of one front end: its requests come in, their answers go back.

When the front end ends, all that it had in flight is withdrawn. Made by `engine_door`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from minwatt.v1.inference_pb2 import ClassifyRequest, ExtractEntitiesRequest
from service.calls import Unary
from service.fronts import messages, records
from service.fronts.channel import Channel, Ends, Side
from service.fronts.messages import Forwarded, LargeAnswer, Left, Replied, Spent, ToFront, refusal_of
from service.fronts.records import OipCounted, RefusedAnswer, RefusedHere, Seen, Submission, Withdrawn
from service.fronts.residents import Held, Residents
from service.fronts.submitted import Shown, SubmittedInference
from service.inference import Arrival, Inference
from service.oip.statistics import ModelCounts, Took
from service.statuses import Refusal, internal, unavailable
from service.telemetry import Telemetry
from service.wire import Reader, Unreadable

_REQUESTS = {"ClassifyRequest": ClassifyRequest, "ExtractEntitiesRequest": ExtractEntitiesRequest}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Asked:
    """What answers the front ends' requests; all links share it."""

    inference: Inference
    submitted: SubmittedInference
    telemetry: Telemetry
    residents: Residents
    oip_counts: dict[str, ModelCounts]
    methods: dict[str, Unary] = field(default_factory=dict)  # by `/service/method`
    front_ends_cpu_s: float = 0.0


class Link:
    """One front end, as long as it lives."""

    def __init__(
        self, ends: Ends, asked: Asked, on_seen: Callable[[], None], on_lost: Callable[[Link], None]
    ) -> None:
        self.seen = 0  # the version of the state that it goes by
        self.tokenizers: set[str] = set()  # that it was told of last
        self._asked = asked
        self._on_seen, self._on_lost = on_seen, on_lost
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._cpu_s = 0.0
        self._channel = Channel(ends, Side.ENGINE, self._record, self._message, self._lost)

    def tell(self, message: ToFront) -> None:
        self._channel.send_message(messages.for_front(message))

    def cut(self) -> None:
        self._channel.close()

    def kill(self) -> None:
        """A front end that hangs: the supervisor starts another."""
        self._channel.kill()

    def _lost(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._on_lost(self)

    # -- what comes

    def _record(self, record: bytes) -> None:
        one = records.to_engine(record)
        match one:
            case Submission():
                self._submitted(one)
            case Withdrawn(id=id_):
                self._withdraw(id_)
            case Seen(version=version):
                self.seen = version
                self._on_seen()
            case RefusedHere():
                self._refused_there(one)
            case OipCounted():
                self._counted(one)

    def _message(self, data: bytes) -> None:
        try:
            message, body = messages.in_engine(data)
        except (ValueError, TypeError, KeyError) as error:
            log.error("a front end has sent what is no message: %s", type(error).__name__)
            self.cut()
            return
        match message:
            case Forwarded():
                self._start(message.id, self._reply(message, body))
            case Left(id=id_):
                self._withdraw(id_)
            case Spent(cpu_s=cpu_s):
                self._asked.front_ends_cpu_s += max(0.0, cpu_s - self._cpu_s)
                self._cpu_s = max(cpu_s, self._cpu_s)

    def _withdraw(self, id_: int) -> None:
        task = self._tasks.get(id_)
        if task is not None:
            task.cancel()

    def _start(self, id_: int, answering: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks[id_] = asyncio.get_running_loop().create_task(answering)
        task.add_done_callback(lambda _: self._tasks.pop(id_, None))
        return task

    # -- submissions

    def _submitted(self, one: Submission) -> None:
        held = self._asked.residents.find(one.model)
        if held is None or not one.task < len(held.model.spec.tasks):
            refusal = unavailable("starting", "the model has just been replaced", 0.1)
            self._asked.telemetry.arrived()
            self._asked.telemetry.refused(one.method, time.monotonic() - one.arrived_s, refusal)
            self._refuse(one.id, refusal)
            return
        submitted = self._asked.submitted
        arrival = submitted.submitted(one)
        held.users += 1

        def ended(task: asyncio.Task[None]) -> None:
            held.users -= 1
            if task.cancelled() and arrival.caller is None:
                submitted.left_at_once(arrival)
            if held.gone_since is not None:
                self._on_seen()

        self._start(one.id, self._answer(one, held, arrival)).add_done_callback(ended)

    async def _answer(self, one: Submission, held: Held, arrival: Arrival) -> None:
        try:
            record = await self._asked.submitted.packed_answer(one, held.model, arrival)
            self._give(record)
        except Refusal as refusal:
            self._refuse(one.id, refusal)
        except Exception as error:  # it is counted as answered by now
            log.exception("an answer could not be sent")
            self._refuse(one.id, internal(f"unexpected {type(error).__name__}"))

    def _refuse(self, id_: int, refusal: Refusal) -> None:
        status = refusal.status().SerializeToString()
        self._give(records.refusal(RefusedAnswer(id_, refusal.reason, status)))

    def _give(self, record: bytes) -> None:
        if len(record) <= self._channel.most_bytes:
            self._channel.send(record)
        else:
            self.tell(LargeAnswer(record))

    # -- what is forwarded

    async def _reply(self, message: Forwarded, body: bytes) -> None:
        try:
            reply = await self._replied(message, body)
        except Refusal as refusal:
            status = refusal.status().SerializeToString()
            self.tell(Replied(message.id, None, (refusal.reason, status)))
        except Exception as error:
            log.exception("a forwarded call failed")
            status = internal(f"unexpected {type(error).__name__}").status().SerializeToString()
            self.tell(Replied(message.id, None, ("failed", status)))
        else:
            self.tell(Replied(message.id, reply))

    async def _replied(self, message: Forwarded, body: bytes) -> bytes:
        left_s = None if message.deadline_s is None else message.deadline_s - time.monotonic()
        call = Shown(message.metadata, message.peer_identity, left_s)
        if message.kind == "call":
            return await self._asked.methods[message.method](body, call)
        arrival = self._asked.inference.arrival(message.method, call)
        arrival.arrived_s = message.arrived_s
        question: Message | Unreadable
        if message.kind == "unreadable":
            question = Unreadable(refusal_of(message.reason, body))
        else:
            question = Reader(_REQUESTS[message.message_type], len(body))(body)
        answer = await self._asked.inference.answer(question, arrival)
        return answer.SerializeToString()

    # -- what is told

    def _refused_there(self, one: RefusedHere) -> None:
        refusal = Refusal(messages.CODES[one.code], one.reason, "")
        for _ in range(one.count):
            self._asked.telemetry.arrived()
            self._asked.telemetry.refused(one.method, 0.0, refusal)

    def _counted(self, one: OipCounted) -> None:
        counts = self._asked.oip_counts[one.model]
        took = Took(*one.took_s)
        if one.texts:
            counts.answered(one.at_s, took, one.texts, one.cost)
        else:
            counts.unanswered(one.at_s, took.latency_s)
