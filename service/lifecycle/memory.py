"""Whether there is room for one more model: refused before it is loaded, not killed for it afterwards.

Owns what a model is predicted to need and what may be used. While one model takes another's place both are
resident, so that much must fit. Called by `lifecycle`; the only file that asks for this process's memory.
"""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from minwatt.v1.quantities import format_bytes

# What a model's files become in this process's memory, before batches are computed: the shipped model's 23 MB
# graph took 46 MB, its 0.7 MB tokenizer 7 to 15 MB. What batches take comes on top, and is learned.
GRAPH_FACTOR = 2.0
TOKENIZER_FACTOR = 20.0

CONTAINER_LIMITS = (  # cgroup v2 and v1, as a container sees its own
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
NO_LIMIT_BYTES = 1 << 60  # v1 says a number of about this size where there is none

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGE_BLOCK_BYTES = 1 << 20
KEPT_BYTES = 16 << 20  # free at a heap's end: less would come and go with each batch


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes now: of this process, and what this machine could still give it."""

    resident_bytes: int
    available_bytes: int


def usage_now() -> Usage:
    return Usage(psutil.Process().memory_info().rss, psutil.virtual_memory().available)


class Memory:
    """What one process may take."""

    def __init__(
        self,
        limit_bytes: int | None,
        container_bytes: int | None = None,
        usage: Callable[[], Usage] = usage_now,
    ) -> None:
        """`limit_bytes`: the operator's; None: the container's and the machine's alone."""
        self._limit_bytes = limit_bytes
        self._container_bytes = container_bytes
        self._usage = usage
        self.before_bytes = usage().resident_bytes  # the first model
        self._ratios: dict[str, float] = {}  # measured / by its files, the most that a model has taken

    @property
    def resident_bytes(self) -> int:
        return self._usage().resident_bytes

    def predicted_bytes(self, directory: ModelDirectory, asked_variant: str | None) -> int:
        """That the model adds, going by its files and by what it took before, or else by what others took."""
        ratio = self._ratios.get(directory.spec.name, max(self._ratios.values(), default=1.0))
        return round(ratio * _by_files_bytes(directory, asked_variant))

    def learn(self, models: Sequence[tuple[ModelDirectory, str]], before_bytes: int) -> None:
        """These variants were loaded and are warm: this process has grown by them and what else it did."""
        by_files = sum(_by_files_bytes(directory, variant) for directory, variant in models)
        ratio = (self.resident_bytes - before_bytes) / by_files if by_files else 1.0
        for directory, _ in models:
            name = directory.spec.name
            self._ratios[name] = max(1.0, ratio, self._ratios.get(name, 1.0))

    def check_room(self, what: str, more_bytes: int) -> None:
        """Raises UsageError with the numbers where so much more would go beyond a limit."""
        usage = self._usage()
        needed = usage.resident_bytes + more_bytes
        machine_bytes = usage.resident_bytes + usage.available_bytes
        for name, limit in (
            ("memory-limit", self._limit_bytes),
            ("the container's memory limit", self._container_bytes),
            ("this machine's memory", machine_bytes),
        ):
            if limit is not None and needed > limit:
                raise UsageError(
                    f"{name} = {format_bytes(limit)}: {what} needs about {format_bytes(more_bytes)} beside "
                    f"the {format_bytes(usage.resident_bytes)} in use"
                )

    def check_kept(self, what: str) -> None:
        """Raises UsageError where more is in use than the operator allows."""
        resident_bytes = self.resident_bytes
        if self._limit_bytes is not None and resident_bytes > self._limit_bytes:
            limit = format_bytes(self._limit_bytes)
            raise UsageError(f"memory-limit = {limit}: with {what} {format_bytes(resident_bytes)} are in use")


def container_limit_bytes(files: tuple[Path, ...] = CONTAINER_LIMITS) -> int | None:
    """None where nothing limits it."""
    for file in files:
        try:
            limit = int(file.read_text())
        except (OSError, ValueError):  # absent, or `max`
            continue
        return limit if limit < NO_LIMIT_BYTES else None
    return None


def forget_what_it_held(error: BaseException) -> None:
    """An exception keeps what its frames had in hand for as long as somebody keeps the exception."""
    held: BaseException | None = error
    while held is not None:
        traceback.clear_frames(held.__traceback__)
        held = held.__cause__ or held.__context__


def map_large_blocks() -> None:
    """What a model's weights take goes back to the machine with the model (glibc). Call as a process starts.

    By default the first large block that is freed teaches glibc to cut later ones out of its heaps, where
    what was allocated after them holds them: replicas that had reloaded the shipped model four to ten times
    were at 212 to 267 MB, with this at 184 to 203.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        set_option(_M_TRIM_THRESHOLD, KEPT_BYTES)


def give_back() -> None:
    """Freed memory to the machine, where the C library (glibc) would keep it for later. Blocks for ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _by_files_bytes(directory: ModelDirectory, asked_variant: str | None) -> float:
    """Files that are not there count nothing: they are refused elsewhere."""
    spec = directory.spec
    variant = spec.variants.get(asked_variant or spec.default_variant)
    graph = 0 if variant is None else _size_bytes(directory.path / variant.file)
    return GRAPH_FACTOR * graph + TOKENIZER_FACTOR * _size_bytes(directory.path / spec.tokenizer.file)


def _size_bytes(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return 0
