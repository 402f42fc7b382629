"""What is exported: a checkpoint, the model directory around it, and the texts that it is checked on.

Reads and refuses; needs no torch, so that a mistake is told before torch is asked for. Called by
`commands.export`, for `release.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import MODEL_FILE, ModelDirectory, ModelSpec, Task
from modelkit.data.examples import source_of
from modelkit.recipe import ExportOptions
from modelkit.release.provenance import digests
from modelkit.release.sentences import SENTENCES
from modelkit.training.base import CHECKPOINT, CONFIG, HEADS, TASKS, TOKENIZER, WEIGHTS, known_tasks

_TEXTS = 256  # of each task's dev split


@dataclass(frozen=True)
class ExportSource:
    """The checkpoint's folder and its heads' tasks. `before` is what the model directory around it says, None
    where there is none; `described` says in words what `texts` are; `data` are its files' digests, of a task
    and a split."""

    folder: Path
    before: ModelSpec | None
    tasks: tuple[Task, ...]
    texts: tuple[str, ...]
    described: str
    data: Mapping[str, Mapping[str, str]]


def read_source(options: ExportOptions) -> ExportSource:
    """Raises UsageError (DataError among them) on a checkpoint or data that can't be read."""
    folder, before = _opened(options.checkpoint)
    if options.out_dir.resolve() == folder.resolve():
        raise UsageError(
            f"out = {str(options.out_dir)!r}: that is the checkpoint; allowed: another directory"
        )
    tasks = _tasks(folder)
    texts, described = _texts(options, tasks)
    data = {} if options.data is None else digests(options.data, options.sets, tasks)
    return ExportSource(folder, before, tasks, tuple(texts), described, data)


def _opened(path: Path) -> tuple[Path, ModelSpec | None]:
    """The checkpoint's folder, and what the model directory around it says, where there is one."""
    folder = path / CHECKPOINT if (path / CHECKPOINT).is_dir() else path
    missing = [name for name in (CONFIG, WEIGHTS, TOKENIZER) if not (folder / name).is_file()]
    if missing:
        allowed = (
            f"a directory with {CONFIG}, {WEIGHTS}, {TOKENIZER}, {TASKS} and {HEADS}, as `finetune` writes"
        )
        raise UsageError(f"checkpoint = {str(path)!r}: no {missing[0]}; allowed: {allowed}")
    around = folder.absolute().parent  # of "." too
    spec = ModelDirectory.open(around).spec if (around / MODEL_FILE).is_file() else None
    return folder, spec


def _tasks(folder: Path) -> tuple[Task, ...]:
    """Those that the checkpoint has heads for."""
    if tasks := known_tasks(folder):
        return tasks
    raise UsageError(
        f"{folder}: no {TASKS}: an encoder without heads; `minwatt model finetune --from` trains them"
    )


def _texts(options: ExportOptions, tasks: Sequence[Task]) -> tuple[list[str], str]:
    """What both are asked, and in words what that is."""
    if options.data is None:
        return list(SENTENCES), f"{len(SENTENCES)} built-in sentences"
    source = source_of(options.data, "dev", options.sets)
    texts: list[str] = []
    for task in tasks:
        examples = source.texts(task) if task.kind == "classification" else source.annotated(task)
        texts += [example.text for example in examples[:_TEXTS]]
    return texts, f"{len(texts)} texts of the dev split"
