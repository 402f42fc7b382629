"""What the client returns: frozen, typed values instead of messages.

Owns the reading of replies. Made by `minwatt.client`; applications only look at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from minwatt.v1 import inference_pb2 as pb

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Label:
    name: str
    score: float  # probability in [0, 1]


@dataclass(frozen=True, slots=True)
class Classification:
    """The labels of one text, best first; none when `min_score` left none."""

    labels: tuple[Label, ...]
    truncated: bool  # only the text's first tokens were read

    @property
    def label(self) -> str | None:
        """The best label's name."""
        return self.labels[0].name if self.labels else None

    @property
    def score(self) -> float | None:
        """The best label's probability."""
        return self.labels[0].score if self.labels else None


@dataclass(frozen=True, slots=True)
class Entity:
    """`text` is `texts[i][start:end]` of the text sent."""

    label: str
    score: float
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Extraction:
    """The entities of one text, by start."""

    entities: tuple[Entity, ...]
    truncated: bool  # only the text's first tokens were read


@dataclass(frozen=True, slots=True)
class Usage:
    """What the request cost at the server. `energy_j` is None when its meter gave none."""

    tokens: int
    queue_s: float
    compute_s: float
    batch_texts: int
    energy_j: float | None
    energy_source: str
    cached_texts: int = 0  # answered by what another request had computed: nothing above is theirs


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    version: str
    variant: str


@dataclass(frozen=True, slots=True)
class Reply(Sequence[T], Generic[T]):
    """The results in the order of the texts, as a sequence; with what they cost and which model gave them."""

    results: tuple[T, ...]
    usage: Usage
    model: Model

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self.results[index]


def classify_reply(message: pb.ClassifyResponse) -> Reply[Classification]:
    results = tuple(
        Classification(tuple(Label(label.name, label.score) for label in result.labels), result.truncated)
        for result in message.results
    )
    return Reply(results, _usage(message.usage), _model(message.model))


def extract_reply(message: pb.ExtractEntitiesResponse) -> Reply[Extraction]:
    results = tuple(
        Extraction(
            tuple(Entity(e.label, e.score, e.text, e.start, e.end) for e in result.entities), result.truncated
        )
        for result in message.results
    )
    return Reply(results, _usage(message.usage), _model(message.model))


def _usage(usage: pb.Usage) -> Usage:
    energy_j = usage.energy_joules if usage.HasField("energy_joules") else None
    return Usage(
        usage.tokens,
        usage.queue_seconds,
        usage.compute_seconds,
        usage.batch_size,
        energy_j,
        usage.energy_source,
        usage.cached_texts,
    )


def _model(model: pb.ModelIdentity) -> Model:
    return Model(model.name, model.version, model.variant)
