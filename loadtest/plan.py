"""What is sent when: planned times and the serialized requests they carry.

Owns the choice of a text and a task for each arrival, made before the clock starts so that sending costs
little. Leaves arrival times to `arrivals` and `trace`, sending to `sender`. Called by `cli` and by
`minwatt profile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from minwatt.v1 import inference_pb2

Times = NDArray[np.float64]  # seconds from the start of a run, sorted


class Task(StrEnum):
    CLASSIFY = "classify"
    EXTRACT = "extract"


@dataclass(frozen=True, slots=True)
class Payload:
    """One request, ready for the wire."""

    task: Task
    request: bytes  # serialized ClassifyRequest or ExtractEntitiesRequest
    texts: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`payloads[choices[i]]` is sent at `planned_s[i]`; `duration_s` counts a silence at the end too."""

    planned_s: Times  # [requests]
    choices: NDArray[np.intp]  # [requests]
    payloads: Sequence[Payload]
    duration_s: float
    deadlines_s: Times | None = None  # [requests], each its own; None: one for all, which the sender has

    def __len__(self) -> int:
        return len(self.planned_s)


def payload(
    task: Task,
    texts: Sequence[str],
    model: str = "",
    batch: bool = False,
    no_cache: bool = False,
    truncate: bool = False,
) -> Payload:
    """One request of `texts`; an empty `model` is the server's default one. `batch`: of that class."""
    message: inference_pb2.ClassifyRequest | inference_pb2.ExtractEntitiesRequest
    if task is Task.CLASSIFY:
        message = inference_pb2.ClassifyRequest(model=model, texts=texts)
    else:
        message = inference_pb2.ExtractEntitiesRequest(model=model, texts=texts)
    if batch:
        message.options.priority = inference_pb2.PRIORITY_BATCH
    if no_cache:
        message.options.no_cache = True
    if truncate:
        message.options.long_text = inference_pb2.LONG_TEXT_TRUNCATE
    return Payload(task, message.SerializeToString(), len(texts))


def build_plan(
    planned_s: Times, duration_s: float, payloads: Sequence[Sequence[Payload]], rng: np.random.Generator
) -> Plan:
    """Each arrival takes one of the groups of `payloads` at random, then one payload of that group.

    With one group a task, tasks share the requests evenly however many texts each has. No group may be empty.
    """
    sizes = np.array([len(group) for group in payloads])
    starts = np.cumsum(sizes) - sizes
    groups = rng.integers(len(payloads), size=len(planned_s))
    within = (rng.random(len(planned_s)) * sizes[groups]).astype(np.intp)
    flat = [item for group in payloads for item in group]
    return Plan(planned_s, starts[groups] + within, flat, duration_s)
