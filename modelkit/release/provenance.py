"""Where a model comes from, as `model.yaml` tells it: base, data, command, versions, date.

Reads files and what is installed; needs no torch. Called by `release.run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Provenance, Task, sha256_of
from modelkit.data.dataset import TaskFiles
from modelkit.data.examples import Data
from modelkit.scoring.evaluate import SPLITS
from report.provenance import installed

LIBRARIES = ("minwatt", "onnx", "onnxruntime", "tokenizers", "torch", "transformers")
_SUFFIXES = {"classification": "jsonl", "ner": "conll"}


def digests(data: Data, sets: Mapping[str, str], tasks: tuple[Task, ...]) -> dict[str, dict[str, str]]:
    """The sha256 of every file of every task: {task: {split: digest}}. Raises UsageError on one unread."""
    return {task.name: _of_task(data, sets, task) for task in tasks}


def provenance(
    base: str | None,
    weights: Path,
    data: Mapping[str, Mapping[str, str]],
    command: str | None,
    opset: int,
    now: datetime,
) -> Provenance:
    """Of a graph that is exported from the checkpoint file `weights` at `now`."""
    return Provenance(
        base=base,
        weights_sha256=sha256_of(weights),
        data={task: dict(splits) for task, splits in data.items()},
        command=command,
        versions=installed(LIBRARIES),
        opset=opset,
        created=now.replace(microsecond=0).isoformat().replace("+00:00", "Z"),
    )


def _of_task(data: Data, sets: Mapping[str, str], task: Task) -> dict[str, str]:
    if isinstance(data, Path):
        suffix = _SUFFIXES[task.kind]
        folder = data / sets.get(task.name, task.name)
        files = TaskFiles(task.name, {split: folder / f"{split}.{suffix}" for split in SPLITS})
    else:
        files = next((files for files in data if files.name == task.name), TaskFiles(task.name, {}))
    found = {}
    for split, path in files.splits.items():
        try:
            found[split] = sha256_of(path)
        except OSError as error:
            raise UsageError(f"{path}: can't be read ({error.strerror})") from error
    return found
