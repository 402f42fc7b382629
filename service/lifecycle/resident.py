"""One model and all that answers for it: its directory as it was read, tokenizer, engines, queue and batcher.

Made by `loading`, held by `models`; `inference` answers a request with the one that the request found.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from minwatt.v1.inference_pb2 import ModelIdentity
from minwatt.v1.model_dir import ModelDirectory, ModelSpec
from service.batcher import Batcher
from service.dispatch import Dispatcher
from service.tokenize import TextTokenizer
from service.workers import Engines


@dataclass(frozen=True, slots=True, eq=False)
class ResidentModel:
    """`asked_variant` None: the model's own default, whichever `model.yaml` names by then."""

    directory: ModelDirectory
    variant: str
    asked_variant: str | None
    tokenizer: TextTokenizer
    engines: Engines
    batcher: Batcher
    identity: ModelIdentity = field(init=False)

    def __post_init__(self) -> None:
        spec = self.directory.spec
        object.__setattr__(
            self, "identity", ModelIdentity(name=spec.name, version=spec.version, variant=self.variant)
        )

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def spec(self) -> ModelSpec:
        return self.directory.spec

    @property
    def dispatcher(self) -> Dispatcher:
        return self.batcher.dispatcher

    def __str__(self) -> str:
        return f"{self.name} {self.spec.version} {self.variant}"


async def stopped(batching: asyncio.Task[None]) -> None:
    """Ends a model's batcher; what it still had open is refused."""
    batching.cancel()
    await asyncio.wait({batching})
