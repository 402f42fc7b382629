"""From a directory on disk to a resident model: files checked, loaded, warmed up and rehearsed.

Runs at the start of the replica, and later on a thread beside those that serve: there the warm-up, which is
seconds of compute, takes a tenth of the cores' time where others want it too. Called by `server` and
`lifecycle`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import MODEL_FILE, ModelDirectory
from service.engines import MakeEncoder, open_engines, warm_shapes
from service.lifecycle.memory import Memory
from service.lifecycle.rehearsal import rehearse
from service.lifecycle.resident import Loaded, ResidentModel
from service.runtime.onnx import OnnxEncoder
from service.settings import ServeSettings
from service.tokenize import TextTokenizer
from service.warm_up import warm_up

NICE = 10  # weighs 110 where others weigh 1024 (Linux's sched_prio_to_weight): it gives way and never starves


@dataclass(frozen=True, slots=True)
class Makers:
    """What makes a model's encoder and its tokenizer; a benchmark puts its own in their place."""

    encoder: MakeEncoder = OnnxEncoder
    tokenizer: Callable[[Path, int], TextTokenizer] = TextTokenizer


AS_SERVED = Makers()


class Loader:
    """One per replica. One model is loaded at a time."""

    def __init__(
        self,
        settings: ServeSettings,
        makers: Makers,
        assembled: Callable[[Loaded], ResidentModel],
    ) -> None:
        """`assembled`: a loaded model with what answers for it."""
        self._settings = settings
        self._makers = makers
        self._assembled = assembled
        # A tokenizer takes tens of milliseconds to read, in which no Python thread runs, and some megabytes:
        # a model's variants, and most of its versions, have the same one.
        self._tokenizers: WeakValueDictionary[tuple[str, int], TextTokenizer] = WeakValueDictionary()

    def load(self, path: Path, asked_variant: str | None) -> ResidentModel:
        """Raises UsageError."""
        read = {path / MODEL_FILE: _signature(path / MODEL_FILE)}
        directory = ModelDirectory.open(path)
        spec = directory.spec
        variant = asked_variant or spec.default_variant
        for file in (spec.tokenizer.file, *(v.file for name, v in spec.variants.items() if name == variant)):
            read[path / file] = _signature(path / file)
        tokenizer = self._tokenizer(directory)
        engines = open_engines(directory, variant, self._settings, self._makers.encoder)
        changed = [file for file, before in read.items() if _signature(file) != before]
        if changed:  # the digests may be those of other files than the ones that were loaded
            raise UsageError(f"{changed[0]}: was changed while the model was loaded; load it again")
        return self._assembled(Loaded(directory, variant, asked_variant, tokenizer, engines))

    async def warm_beside_others(self, model: ResidentModel) -> None:
        """As `warm`, on a thread that gives way to those that serve. Raises UsageError."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="warm-up", initializer=_give_way)
        clock = time.thread_time if self._settings.provider == "cpu" else time.monotonic
        try:
            await asyncio.get_running_loop().run_in_executor(thread, self.warm, model, clock)
        except UsageError:
            await asyncio.to_thread(thread.shutdown)  # until then it holds the model that is refused
            raise
        finally:
            thread.shutdown(wait=False)

    def warm(self, model: ResidentModel, clock: Callable[[], float] = time.monotonic) -> None:
        """Computes the batch shapes, then some texts. Raises UsageError where the model can't.

        `clock`: what its batches take. Of a thread that gives way that is the time it computed, not waited.
        """
        spec, dispatcher = model.spec, model.dispatcher
        where = str(model.directory.path)
        outputs = [task.output for task in spec.tasks]
        engines = [engine.timed_by(clock) for engine in model.engines.all]
        try:
            learned = warm_up(engines, outputs, warm_shapes(spec, dispatcher.limits, self._settings))
        except Exception as error:  # whatever the runtime raises: this model can't be served
            why = " ".join(str(error).split())[:300]
            raise UsageError(f"{where}: the model fails in warm-up: {why}") from error
        dispatcher.warmed_up(learned)
        rehearse(where, spec, model.tokenizer, model.engines.all[0])

    def _tokenizer(self, directory: ModelDirectory) -> TextTokenizer:
        file, spec = directory.tokenizer_file(), directory.spec
        key = (spec.tokenizer.sha256, spec.max_tokens)
        tokenizer = self._tokenizers.get(key)
        if tokenizer is None:
            tokenizer = self._tokenizers[key] = self._makers.tokenizer(file, spec.max_tokens)
        return tokenizer


def first_models(loader: Loader, memory: Memory, settings: ServeSettings) -> dict[str, ResidentModel]:
    """Those that the replica is started with, by name, the default first. Raises UsageError."""
    models: dict[str, ResidentModel] = {}
    for path in settings.model:
        directory = ModelDirectory.open(path)
        name = directory.spec.name
        if name in models:
            raise UsageError(f"model = '{path}': is named {name!r} as {models[name].directory.path} is")
        memory.check_room(f"model {name!r}", memory.predicted_bytes(directory, settings.variant))
        models[name] = loader.load(path, settings.variant)
    return models


def _give_way() -> None:
    """Of the cores, this thread and those that it starts get a tenth of what each other thread gets."""
    if sys.platform == "linux":  # elsewhere a priority is of the whole process
        os.setpriority(os.PRIO_PROCESS, 0, NICE)


def _signature(file: Path) -> tuple[int, int, int] | None:
    """Another one once a file was written or replaced; None where it can't be read."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
