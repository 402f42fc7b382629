"""Models come and go while requests are answered: load, unload, reload, and the operating point's variant.

A model is loaded, checked, warmed up and rehearsed on a thread beside those that serve; then it takes its
place between two requests, and the one that it replaces answers what it holds and is closed. Whatever is
wrong with it, the old one keeps serving. One at a time: who asks meanwhile waits. Called by `server` (the
loop, SIGHUP), by `fleet` (operating points) and by whoever serves the admin's calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence

import grpc

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec
from service.lifecycle.loading import Loader
from service.lifecycle.memory import Memory, forget_what_it_held, give_back
from service.lifecycle.models import Models
from service.lifecycle.resident import ResidentModel
from service.replica import Replica
from service.statuses import Refusal, unknown_model
from service.workers import Workers

log = logging.getLogger(__name__)


class Lifecycle:
    """One per replica; `run` is its task. Names are those of the directories the replica was started with."""

    def __init__(
        self,
        loader: Loader,
        first: Mapping[str, ResidentModel],
        workers: Workers,
        replica: Replica,
        memory: Memory,
    ) -> None:
        """`first`: loaded, not yet warm; the first of them is the default."""
        self.replacements = Counter(dict.fromkeys(first, 0))  # models that took their place since the start
        self.failures = Counter(dict.fromkeys(first, 0))  # that were refused; both by name
        self.changed: Callable[[], None] = lambda: None  # called when another model is in its place
        self._loader = loader
        self._workers = workers
        self._replica = replica
        self._memory = memory
        self._paths = {name: model.directory.path for name, model in first.items()}
        default, *others = first.values()
        self.models: Models[ResidentModel] = Models(default, self._let_go)
        for model in others:
            self.models.put(model)
        replica.serve(self.models)
        self._batching: dict[ResidentModel, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # changes under way, and models that are leaving
        self._following: asyncio.Task[None] | None = None
        self._told = False  # of an operating point since the last try to follow
        self._one_at_a_time = asyncio.Lock()
        self._rereading = asyncio.Lock()
        self._running = asyncio.Event()
        self._broken: asyncio.Future[None] | None = None

    @property
    def names(self) -> Sequence[str]:
        """Of the models that can be loaded."""
        return tuple(self._paths)

    @property
    def unloaded(self) -> Sequence[str]:
        """Of those that are not resident now."""
        return [name for name in self._paths if name not in self.models.by_name]

    async def warm(self) -> None:
        """The first models, before the replica is ready. Raises UsageError.

        On another thread, so that health checks and reports go on meanwhile.
        """
        for model in self.models.by_name.values():
            await asyncio.to_thread(self._loader.warm, model)
        first = [(model.directory, model.variant) for model in self.models.by_name.values()]
        self._memory.learn(first, self._memory.before_bytes)
        self._memory.check_kept("the models")

    async def run(self) -> None:
        """The models' batchers and their workers, until cancelled. A batcher that breaks ends the replica."""
        self._workers.start()
        self._broken = asyncio.get_running_loop().create_future()
        self._batching.update({model: self._started(model) for model in self.models.by_name.values()})
        self._running.set()
        try:
            await self._broken
        finally:
            self._running.clear()
            ending = {*self._tasks, *self._batching.values()}
            for task in ending:
                task.cancel()
            await asyncio.wait(ending)
            self._workers.stop()

    async def load(self, name: str, variant: str | None = None) -> None:
        """Makes a model resident, or replaces it; without `variant` it keeps its own, at first its default.

        Raises Refusal, NOT_FOUND, for a name without a directory; UsageError where the model is refused.
        """
        if name not in self._paths:
            raise unknown_model(name, list(self._paths))
        resident = self.models.by_name.get(name)
        kept = None if resident is None else resident.loaded.asked_variant
        await self._shielded(self._replace(name, variant or kept))
        if variant and name == self.models.default.name:
            self._replica.own_variant = variant

    async def reload(self, name: str) -> None:
        """Reads the directory of a resident model anew. Raises Refusal (NOT_FOUND), UsageError."""
        resident = self.models.find(name)
        await self._shielded(self._replace(resident.name, resident.loaded.asked_variant))

    async def unload(self, name: str) -> None:
        """Requests no longer find the model; what it holds is answered. Raises Refusal."""
        resident = self.models.find(name)
        if resident is self.models.default:
            message = f"model {resident.name!r} is the default: it can be replaced, not unloaded"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "invalid", message)
        await self._running.wait()
        async with self._one_at_a_time:
            resident = self.models.find(name)
            self._replica.retired(resident)
            self.models.remove(resident.name)
        log.info("model %s: unloaded", resident)
        self.changed()

    async def reload_changed(self) -> None:
        """Reloads each resident model whose `model.yaml` is another than the one it was loaded with.

        What is refused is logged and counted, and the old one keeps serving.
        """
        async with self._rereading:  # who asks again meanwhile looks again afterwards
            for resident in tuple(self.models.by_name.values()):
                with contextlib.suppress(UsageError, Refusal):  # logged and counted
                    if await self._changed_on_disk(resident):
                        await self.reload(resident.name)

    async def _changed_on_disk(self, resident: ResidentModel) -> bool:
        try:
            unchanged = await asyncio.to_thread(resident.directory.unchanged)
        except UsageError as error:
            self._refused(resident.name, error)
            raise
        if unchanged:
            log.info("model %s: unchanged on disk", resident)
        return not unchanged

    def begin_reload_changed(self) -> None:
        """As `reload_changed`, for who can't wait: a signal."""
        self._task(self.reload_changed())

    def follow(self) -> None:
        """An operating point has come: batches go by it at once, its variant is in force once it is there."""
        for model in self.models.by_name.values():
            model.batcher.retune()
        self._told = True
        if self._following is None or self._following.done():
            self._following = self._task(self._follow())

    async def _follow(self) -> None:
        """Until the default model has the variant that is wanted by then, or can't have it."""
        tried = None
        while (wanted := self._replica.wanted_variant) != self.models.default.variant:
            if wanted == tried and not self._told:
                return
            tried, self._told = wanted, False
            with contextlib.suppress(UsageError):  # logged and counted there
                await self._replace(self.models.default.name, wanted)

    async def _replace(self, name: str, asked_variant: str | None) -> None:
        await self._running.wait()
        async with self._one_at_a_time:
            try:
                model = await self._ready(name, asked_variant)
            except UsageError as error:
                self._refused(name, error)
                forget_what_it_held(error)  # the model, in the frames of its traceback
                await asyncio.to_thread(give_back)
                raise
            old = self.models.by_name.get(name)
            self._replica.apply_to(model.dispatcher)
            self._batching[model] = self._started(model)
            if old is not None:
                self._replica.retired(old)
            self.models.put(model)
            self._replica.settle()
            self.replacements[name] += 1
            log.info("model %s: serves%s", model, "" if old is None else f", in the place of {old}")
        self.changed()

    async def _ready(self, name: str, asked_variant: str | None) -> ResidentModel:
        """Loaded, warm, rehearsed and within the memory that there is. Raises UsageError."""
        path = self._paths[name]
        directory = await asyncio.to_thread(ModelDirectory.open, path)
        predicted_bytes = self._memory.predicted_bytes(directory, asked_variant)
        self._memory.check_room(f"model {name!r}", predicted_bytes)
        before_bytes = self._memory.resident_bytes
        try:
            model = await asyncio.to_thread(self._loader.load, path, asked_variant)
            self._check_place(name, model.spec)
            self._replica.apply_to(model.dispatcher)  # the shapes to warm up are those of its limits
            await self._loader.warm_beside_others(model)
        except UsageError:
            raise
        except Exception as error:  # whatever it is, it must not harm the model that serves
            log.exception("model %s", name)
            raise UsageError(f"{path}: can't be loaded: unexpected {type(error).__name__}") from error
        self._memory.learn([(model.directory, model.variant)], before_bytes)
        self._memory.check_kept(f"model {name!r}")
        return model

    def _check_place(self, name: str, new: ModelSpec) -> None:
        """Raises UsageError for another model than the one that requests ask for."""
        path = self._paths[name]
        if new.name != name:
            raise UsageError(f"{path}: name = {new.name!r}: {name!r} is served from there; restart to rename")
        old = self.models.by_name.get(name)
        if old is not None:
            lost = {task.kind for task in old.spec.tasks} - {task.kind for task in new.tasks}
            if lost:
                tasks = ", ".join(sorted(lost))
                raise UsageError(f"{path}: tasks: {tasks} is missing: {old} answers such requests")

    def _refused(self, name: str, error: UsageError) -> None:
        self.failures[name] += 1
        resident = self.models.by_name.get(name)
        still = "not loaded" if resident is None else f"{resident} keeps serving"
        log.error("model %s: refused, %s: %s", name, still, error)

    def _started(self, model: ResidentModel) -> asyncio.Task[None]:
        task = asyncio.create_task(model.batcher.run())
        task.add_done_callback(self._ended)
        return task

    def _ended(self, batching: asyncio.Task[None]) -> None:
        if not batching.cancelled() and (error := batching.exception()) is not None:
            assert self._broken is not None  # noqa: S101 - batchers run within `run`
            if not self._broken.done():
                self._broken.set_exception(error)

    def _let_go(self, model: ResidentModel) -> None:
        """Its last request has left."""
        self._task(self._close(self._batching.pop(model), str(model)))

    async def _close(self, batching: asyncio.Task[None], who: str) -> None:
        batching.cancel()
        await asyncio.wait({batching})
        del batching  # and with it the model
        await asyncio.to_thread(give_back)
        log.info("model %s: closed", who)

    def _task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        """What went wrong was logged and counted, also where its caller has left."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def _shielded(self, change: Coroutine[None, None, None]) -> None:
        """A caller that leaves doesn't leave a change half done."""
        await asyncio.shield(self._task(change))
