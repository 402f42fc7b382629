"""What a front end goes by: the models, tenants and keys that the engine process has told it of.

Made anew, off the event loop, for each `World`; read by `remote`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minwatt.v1.inference_pb2 import ModelIdentity
from minwatt.v1.model_dir import ModelDirectory, ModelSpec
from service.access import Access
from service.cache.keys import ModelKeys
from service.fronts.messages import World
from service.tokenize import TextTokenizer

Tokenizers = Mapping[tuple[str, int], TextTokenizer]  # by digest and limit


@dataclass(frozen=True, slots=True, eq=False)
class FrontModel:
    """A resident model, without what computes."""

    number: int
    directory: ModelDirectory
    variant: str
    tokenizer: TextTokenizer
    keys: ModelKeys | None  # None: nothing is cached
    identity: ModelIdentity

    @property
    def spec(self) -> ModelSpec:
        return self.directory.spec


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """At one time."""

    world: World
    by_name: Mapping[str, FrontModel]
    default: FrontModel
    access: Access
    tokenizers: Tokenizers

    def find(self, name: str) -> FrontModel | None:
        """Empty: the default."""
        return self.by_name.get(name) if name else self.default


def told_of(world: World, known: Tokenizers) -> Told:
    """`known`: tokenizers that there are. Takes tens of milliseconds where one is new."""
    tokenizers: dict[tuple[str, int], TextTokenizer] = {}
    models = {}
    for told in world.models:
        spec = told.directory.spec
        key = (told.tokenizer, spec.max_tokens)
        tokenizer = tokenizers.get(key) or known.get(key)
        if tokenizer is None:
            tokenizer = TextTokenizer.of(world.tokenizers[told.tokenizer], spec.max_tokens)
        tokenizers[key] = tokenizer
        keys = None
        if world.cache_secret is not None:
            keys = ModelKeys(world.cache_secret, spec, told.variant, world.provider)
        identity = ModelIdentity(name=spec.name, version=spec.version, variant=told.variant)
        models[spec.name] = FrontModel(told.number, told.directory, told.variant, tokenizer, keys, identity)
    default = next(iter(models.values()))
    return Told(world, models, default, Access(world.tenants), tokenizers)
