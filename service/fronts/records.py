"""What travels through a ring: a request with its tokens to the engine process, its packed answer back.

Pure. A text's words never travel: its tokens do, and where entities are asked for, where its words are; an
answer comes back packed (`service.answers`), and the front end cuts the entities out of the text it has.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

import numpy as np

from minwatt.v1.decode import EncodedText
from service.request import Cost

METHODS = (
    "Classify",
    "ExtractEntities",
    "ClassifyStream",
    "ExtractEntitiesStream",
    "ModelInfer",
    "ModelStreamInfer",
)
KEY_BYTES = 32  # of a known answer (`service.cache.keys`)
NO_WORD = -1  # of a special token
_TRUNCATED = 0x80000000  # beside a text's length


class Kind(IntEnum):
    SUBMISSION = 1
    WITHDRAWN = 2  # its client has left
    SEEN = 3  # a front end goes by this state of the engine process; all that it sent before came earlier
    REFUSED_HERE = 4  # requests that found the ring full, or no engine
    OIP_COUNTED = 5  # for ModelStatistics
    ANSWER = 6
    REFUSAL = 7


class _Flag:
    BATCH, WORDS, KEYS = 1, 2, 4


_SUBMISSION = struct.Struct("=BBBBQIIQddddHI")
_ID = struct.Struct("=BQ")
_REFUSED_HERE = struct.Struct("=BBIBH")
_COST = struct.Struct("=IddIdId")
_COUNTED = struct.Struct("=BddddIH")
_ANSWER = struct.Struct("=BQBI")
_REFUSAL = struct.Struct("=BQBI")


@dataclass(frozen=True, slots=True)
class Submission:
    """A request whose caller is known and whose texts are tokens."""

    id: int  # of its front end
    method: str
    model: int  # the number under which the engine process has told of it
    task: int  # of that model
    batch: bool  # its priority class; else interactive
    size_bytes: int  # of its message
    arrived_s: float
    deadline_s: float
    tokenised_s: tuple[float, float]  # from, to
    tenant: str
    texts: Sequence[EncodedText]
    with_words: bool  # where entities are asked for
    keys: Sequence[bytes] = ()  # of known answers; none: they are not asked for
    metadata: Mapping[str, str] = field(default_factory=dict)  # what traces and logs read of the call's


@dataclass(frozen=True, slots=True)
class Answer:
    id: int
    cost: Cost
    energy_source: str
    packed: Sequence[bytes]  # one for each text


@dataclass(frozen=True, slots=True)
class RefusedAnswer:
    id: int
    reason: str
    status: bytes  # google.rpc.Status


@dataclass(frozen=True, slots=True)
class Withdrawn:
    id: int


@dataclass(frozen=True, slots=True)
class Seen:
    version: int


@dataclass(frozen=True, slots=True)
class RefusedHere:
    """So many requests of a method ended in their front end."""

    method: str
    count: int
    reason: str
    code: int  # of gRPC


@dataclass(frozen=True, slots=True)
class OipCounted:
    """One request of the Open Inference Protocol; without `texts` it was not answered."""

    model: str
    at_s: float  # since the epoch
    took_s: tuple[float, float, float]  # all of it, input, output
    texts: int = 0
    cost: Cost = field(default_factory=Cost)


ToEngine = Submission | Withdrawn | Seen | RefusedHere | OipCounted
ToFront = Answer | RefusedAnswer
_Id = TypeVar("_Id", Withdrawn, Seen)


def submission(one: Submission) -> bytes:
    tenant = one.tenant.encode()
    metadata = json.dumps(dict(one.metadata)).encode() if one.metadata else b""
    flags = _Flag.BATCH * one.batch | _Flag.WORDS * one.with_words | _Flag.KEYS * bool(one.keys)
    head = _SUBMISSION.pack(
        Kind.SUBMISSION,
        METHODS.index(one.method),
        one.task,
        flags,
        one.id,
        one.model,
        len(one.texts),
        one.size_bytes,
        one.arrived_s,
        one.deadline_s,
        *one.tokenised_s,
        len(tenant),
        len(metadata),
    )
    lengths = [len(text) | (_TRUNCATED if text.truncated else 0) for text in one.texts]
    parts = [head, tenant, metadata, struct.pack(f"={len(lengths)}I", *lengths), *one.keys]
    parts += [struct.pack(f"={len(text)}i", *text.ids) for text in one.texts]
    if one.with_words:
        for text in one.texts:
            words = [NO_WORD if word is None else word for word in text.word_ids]
            ends = [end for pair in text.offsets for end in pair]
            parts.append(struct.pack(f"={3 * len(text)}i", *words, *ends))
    return b"".join(parts)


def _submission(record: bytes) -> Submission:
    (_, method, task, flags, id_, model, count, size_bytes, *times, of_tenant, of_metadata) = (
        _SUBMISSION.unpack_from(record)
    )
    arrived_s, deadline_s, from_s, to_s = times
    read = _Read(record, _SUBMISSION.size)
    tenant = read.bytes(of_tenant).decode()
    metadata = json.loads(read.bytes(of_metadata)) if of_metadata else {}
    lengths = struct.unpack(f"={count}I", read.bytes(4 * count))
    keys = [read.bytes(KEY_BYTES) for _ in range(count)] if flags & _Flag.KEYS else []
    tokens = [read.ints(length & ~_TRUNCATED) for length in lengths]
    texts = []
    for length, ids in zip(lengths, tokens, strict=True):
        words: list[int | None] = []
        offsets: list[tuple[int, int]] = []
        if flags & _Flag.WORDS:
            words = [None if word == NO_WORD else word for word in read.ints(len(ids))]
            ends = read.ints(2 * len(ids))
            offsets = list(zip(ends[::2], ends[1::2], strict=True))
        texts.append(EncodedText(ids, words, offsets, bool(length & _TRUNCATED)))
    return Submission(
        id_,
        METHODS[method],
        model,
        task,
        bool(flags & _Flag.BATCH),
        size_bytes,
        arrived_s,
        deadline_s,
        (from_s, to_s),
        tenant,
        texts,
        bool(flags & _Flag.WORDS),
        keys,
        metadata,
    )


def withdrawn(id_: int) -> bytes:
    return _ID.pack(Kind.WITHDRAWN, id_)


def seen(version: int) -> bytes:
    return _ID.pack(Kind.SEEN, version)


def refused_here(one: RefusedHere) -> bytes:
    reason = one.reason.encode()
    method = METHODS.index(one.method)
    return _REFUSED_HERE.pack(Kind.REFUSED_HERE, method, one.count, one.code, len(reason)) + reason


def oip_counted(one: OipCounted) -> bytes:
    model = one.model.encode()
    head = _COUNTED.pack(Kind.OIP_COUNTED, one.at_s, *one.took_s, one.texts, len(model))
    return head + _cost(one.cost) + model


def to_engine(record: bytes) -> ToEngine:
    """What a front end has sent. Raises ValueError, struct.error for what is no record."""
    match record[0]:
        case Kind.SUBMISSION:
            return _submission(record)
        case Kind.WITHDRAWN:
            return Withdrawn(_ID.unpack(record)[1])
        case Kind.SEEN:
            return Seen(_ID.unpack(record)[1])
        case Kind.REFUSED_HERE:
            _, method, count, code, length = _REFUSED_HERE.unpack_from(record)
            reason = _Read(record, _REFUSED_HERE.size).bytes(length).decode()
            return RefusedHere(METHODS[method], count, reason, code)
        case Kind.OIP_COUNTED:
            _, at_s, all_s, input_s, output_s, texts, length = _COUNTED.unpack_from(record)
            read = _Read(record, _COUNTED.size)
            cost = read.cost()
            return OipCounted(read.bytes(length).decode(), at_s, (all_s, input_s, output_s), texts, cost)
    raise ValueError(f"a record of kind {record[0]}")


def answer(one: Answer) -> bytes:
    source = one.energy_source.encode()
    head = _ANSWER.pack(Kind.ANSWER, one.id, len(source), len(one.packed))
    lengths = struct.pack(f"={len(one.packed)}I", *map(len, one.packed))
    return b"".join([head, _cost(one.cost), source, lengths, *one.packed])


def _cost(cost: Cost) -> bytes:
    """Not a number: unknown."""
    return _COST.pack(
        cost.tokens,
        cost.queue_s,
        cost.compute_s,
        cost.batch_texts,
        math.nan if cost.energy_j is None else cost.energy_j,
        cost.cached_texts,
        math.nan if cost.cache_s is None else cost.cache_s,
    )


def refusal(one: RefusedAnswer) -> bytes:
    reason = one.reason.encode()
    head = _REFUSAL.pack(Kind.REFUSAL, one.id, len(reason), len(one.status))
    return head + reason + one.status


def to_front(record: bytes) -> ToFront:
    """What the engine process has sent. Raises ValueError, struct.error for what is no record."""
    match record[0]:
        case Kind.ANSWER:
            _, id_, of_source, count = _ANSWER.unpack_from(record)
            read = _Read(record, _ANSWER.size)
            cost = read.cost()
            source = read.bytes(of_source).decode()
            lengths = struct.unpack(f"={count}I", read.bytes(4 * count))
            packed = [read.bytes(length) for length in lengths]
            return Answer(id_, cost, source, packed)
        case Kind.REFUSAL:
            _, id_, of_reason, of_status = _REFUSAL.unpack_from(record)
            read = _Read(record, _REFUSAL.size)
            return RefusedAnswer(id_, read.bytes(of_reason).decode(), read.bytes(of_status))
    raise ValueError(f"a record of kind {record[0]}")


class _Read:
    """A record from some place on. Raises ValueError beyond its end."""

    def __init__(self, record: bytes, at: int) -> None:
        self._record = record
        self._at = at

    def bytes(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._record):
            raise ValueError(f"{len(self._record)} bytes, {end} expected")
        found = self._record[self._at : end]
        self._at = end
        return found

    def cost(self) -> Cost:
        fields = _COST.unpack(self.bytes(_COST.size))
        tokens, queue_s, compute_s, batch_texts, energy_j, cached_texts, cache_s = fields
        known_j = None if math.isnan(energy_j) else energy_j
        known_s = None if math.isnan(cache_s) else cache_s
        return Cost(tokens, queue_s, compute_s, batch_texts, known_j, cached_texts, known_s)

    def ints(self, count: int) -> list[int]:
        found: list[int] = np.frombuffer(self.bytes(4 * count), np.int32).tolist()
        return found
