"""What a front end makes of a request for the engine process, and of that process's answer for the client.

A request that is not plainly good is left to the engine process, which says what is wrong with it. Called by
`remote`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from minwatt.v1.decode import EncodedText
from minwatt.v1.model_dir import Task
from service.answers import unpacked
from service.calls import Call
from service.fronts import records
from service.fronts.messages import CONTEXT_KEYS
from service.fronts.records import Answer, Submission
from service.fronts.told import FrontModel, Told
from service.inference import Arrival
from service.replies import AnyRequest, AnyResponse, reply
from service.statuses import Refusal
from service.tokenize import TooLong
from service.tokenizing import Tokenizing
from service.validation import Options, check


@dataclass(frozen=True, slots=True)
class Prepared:
    """A good request, as far as a front end can tell."""

    model: FrontModel
    task: Task
    options: Options
    texts: list[str]
    tenant: str
    encoded: list[EncodedText]
    tokenised_s: tuple[float, float]


class Preparing:
    """One per front end."""

    def __init__(self, max_texts: int) -> None:
        self._max_texts = max_texts
        self._tokenizing = Tokenizing()

    async def prepared(self, told: Told, message: AnyRequest, arrival: Arrival) -> Prepared | None:
        """None: the engine process is to say what is wrong with it."""
        try:
            caller = told.access.caller(arrival.call, "infer")
            model = told.find(message.model)
            if model is None or not 0 < len(message.texts) <= self._max_texts:
                return None
            task, options = check(message, model.spec, self._max_texts)
        except Refusal:
            return None
        texts = list(message.texts)
        begun_s = time.monotonic()
        words = task.kind == "ner"
        encoded = await self._tokenizing.encode(model.tokenizer, texts, options.truncate, words)
        if isinstance(encoded, TooLong):
            return None
        tokenised_s = (begun_s, time.monotonic())
        return Prepared(model, task, options, texts, caller.tenant.name, encoded, tokenised_s)

    def close(self) -> None:
        self._tokenizing.close()


def submission(id_: int, prepared: Prepared, message: AnyRequest, arrival: Arrival) -> bytes:
    model, options = prepared.model, prepared.options
    keys: list[bytes] = []
    if model.keys is not None and not options.no_cache:
        keys = [
            model.keys.key(prepared.tenant, prepared.task, options.truncate, text) for text in prepared.texts
        ]
    return records.submission(
        Submission(
            id_,
            arrival.method,
            model.number,
            model.spec.tasks.index(prepared.task),
            options.batch,
            message.ByteSize(),
            arrival.arrived_s,
            arrival.deadline_s,
            prepared.tokenised_s,
            prepared.tenant,
            prepared.encoded,
            prepared.task.kind == "ner",
            keys,
            shown(arrival.call, CONTEXT_KEYS),
        )
    )


def response_of(prepared: Prepared, message: AnyRequest, answer: Answer) -> AnyResponse:
    results = [
        unpacked(prepared.task, prepared.options, text, packed)
        for text, packed in zip(prepared.texts, answer.packed, strict=True)
    ]
    return reply(message, results, answer.cost, answer.energy_source, prepared.model.identity)


def shown(call: Call | None, keys: Sequence[str]) -> dict[str, str]:
    if call is None:
        return {}
    return {key: value for key in keys if (value := call.metadata(key)) is not None}
