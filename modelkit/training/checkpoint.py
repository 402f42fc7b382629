"""What training leaves on disk: the state it resumes from, and the trained encoder with its heads.

    CHECKPOINT/config.json, model.safetensors, tokenizer.json   as `transformers` writes an encoder
    CHECKPOINT/heads.safetensors, tasks.json                    a matrix and a bias each task, and its labels

A checkpoint is a base that `finetune` and `build` start from; in `finetune`, a head goes on from the
weights of the labels that the checkpoint knows. Called by `train` and by what
reads or writes a checkpoint. Needs torch (the `train`
extra).
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task
from modelkit.training.base import HEADS, TASKS, TOKENIZER, WEIGHTS, known_tasks
from modelkit.training.network import MultiTaskEncoder, load_base


@dataclass(frozen=True)
class ResumeFile:
    """The state of a training after its last whole epoch, and what that training was told.

    `told` names what must be the same for the state to be of use: options, and digests of data and weights.
    """

    path: Path
    told: Mapping[str, str]

    def save(self, snapshot: dict[str, Any]) -> None:
        """Replace the file at once: a kill meanwhile leaves the one before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        try:
            with new.open("wb") as stream:
                torch.save({"told": dict(self.told), "snapshot": snapshot}, stream)
        except (
            RuntimeError
        ) as error:  # torch closes its archive, which fails anew and hides what failed first
            full = error.__context__
            raise full if isinstance(full, OSError) else OSError(errno.EIO, str(error), str(new)) from error
        os.replace(new, self.path)

    def load(self) -> dict[str, Any] | None:
        """The state; None where there is none of this training. Raises UsageError where it can't be read."""
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, weights_only=True, map_location="cpu")
            before, snapshot = content["told"], content["snapshot"]
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{self.path}: no state to resume from ({reason}); remove it") from error
        return snapshot if before == self.told else None


def write_checkpoint(network: MultiTaskEncoder, tokenizer_file: Path, folder: Path) -> None:
    """Write `folder`, made if need be."""
    network.encoder.config.save_pretrained(folder)
    # Its own `save_pretrained` shows a progress bar.
    _save(network.encoder.state_dict(), folder / WEIGHTS)
    shutil.copyfile(tokenizer_file, folder / TOKENIZER)
    _save(network.task_heads.state_dict(), folder / HEADS)
    document = [task.model_dump(mode="json") for task in network.tasks]
    (folder / TASKS).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raises OSError where the disk is full: the library's own error for it is none."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(errno.EIO, " ".join(str(error).split()), str(path)) from error


def load_checkpoint(folder: Path) -> MultiTaskEncoder:
    """The network that was written to `folder`, all its heads, without dropout.

    Raises UsageError where it can't be read.
    """
    tasks = known_tasks(folder)
    network = load_base(folder, tasks, 0.0, folder / TOKENIZER)
    if not tasks or len(adopt_heads(network, folder)) < len(tasks):
        raise UsageError(f"{folder}: heads that can't be read: {HEADS} has not all of {TASKS}")
    network.eval()
    return network


def adopt_heads(network: MultiTaskEncoder, base: Path) -> tuple[str, ...]:
    """Take over, of the tasks that checkpoint `base` has by name and kind, the rows of the labels that it
    knows.

    Returns the tasks' names: none where `base` is an encoder alone. Raises UsageError where its heads can't
    be read.
    """
    known = known_tasks(base)
    if not known:
        return ()
    try:
        weights = load_file(base / HEADS)
        adopted = []
        for head, task in zip(network.task_heads, network.tasks, strict=True):
            for number, there in enumerate(known):
                if (there.name, there.kind) == (task.name, task.kind):
                    _copy_rows(weights, number, there, head, task)
                    adopted.append(task.name)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"base = {str(base)!r}: heads that can't be read: {reason}") from error
    return tuple(adopted)


def _copy_rows(
    weights: Mapping[str, torch.Tensor], number: int, there: Task, head: nn.Module, task: Task
) -> None:
    """Of the labels that both have; the head's other rows stay as they are."""
    shared = [label for label in there.labels if label in task.labels]
    source = torch.tensor([there.labels.index(label) for label in shared], dtype=torch.long)
    target = torch.tensor([task.labels.index(label) for label in shared], dtype=torch.long)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter[target] = weights[f"{number}.{name}"][source]
