"""One model and all that answers for it: its directory as it was read, tokenizer, engines, queue and batcher.

Made by `loading`, held by `models`; `inference` answers a request with the one that the request found.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minwatt.v1.inference_pb2 import ModelIdentity
from minwatt.v1.model_dir import ModelDirectory, ModelSpec
from service.batcher import Batcher
from service.cache.known import KnownAnswers
from service.dispatch import Dispatcher
from service.gate import Gate
from service.tokenize import TextTokenizer
from service.workers import Engines


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came from the disk. `asked_variant` None: the model's own default, whichever that is by then."""

    directory: ModelDirectory
    variant: str
    asked_variant: str | None
    tokenizer: TextTokenizer
    engines: Engines


@dataclass(frozen=True, slots=True, eq=False)
class ResidentModel:
    """`gate` and `known` are the model's own: what its texts take, and what it has answered."""

    loaded: Loaded
    batcher: Batcher
    gate: Gate
    known: KnownAnswers | None
    identity: ModelIdentity = field(init=False)

    def __post_init__(self) -> None:
        identity = ModelIdentity(name=self.name, version=self.spec.version, variant=self.variant)
        object.__setattr__(self, "identity", identity)

    @property
    def directory(self) -> ModelDirectory:
        return self.loaded.directory

    @property
    def spec(self) -> ModelSpec:
        return self.loaded.directory.spec

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def variant(self) -> str:
        return self.loaded.variant

    @property
    def tokenizer(self) -> TextTokenizer:
        return self.loaded.tokenizer

    @property
    def engines(self) -> Engines:
        return self.loaded.engines

    @property
    def dispatcher(self) -> Dispatcher:
        return self.batcher.dispatcher

    def __str__(self) -> str:
        return f"{self.name} {self.spec.version} {self.variant}"
