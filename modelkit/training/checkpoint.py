"""What training leaves on disk: the state it resumes from, and the trained encoder with its heads.

    CHECKPOINT/config.json, model.safetensors, tokenizer.json   as `transformers` writes an encoder
    CHECKPOINT/heads.safetensors, tasks.json                    a matrix and a bias each task, and its labels

A checkpoint is a base that `finetune` and `build` start from; in `finetune`, a head whose labels are the same
goes on from its weights. Called by `train` and `finetune`. Needs torch (the `train` extra).
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task
from modelkit.training.base import TOKENIZER, WEIGHTS
from modelkit.training.network import MultiTaskEncoder, load_base

HEADS, TASKS = "heads.safetensors", "tasks.json"
_TASK_LIST = TypeAdapter(tuple[Task, ...])


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
        with new.open("wb") as stream:  # given a path, torch tells no OSError
            torch.save({"told": dict(self.told), "snapshot": snapshot}, stream)
        os.replace(new, self.path)

    def load(self) -> dict[str, Any] | None:
        """The state; None where there is none of this training. Raises UsageError where it can't be read."""
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, weights_only=True)
            before, snapshot = content["told"], content["snapshot"]
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{self.path}: no state to resume from ({reason}); remove it") from error
        return snapshot if before == self.told else None


def write_checkpoint(network: MultiTaskEncoder, tokenizer_file: Path, folder: Path) -> None:
    """Write `folder`, made if need be."""
    network.encoder.config.save_pretrained(folder)
    # Its own `save_pretrained` shows a progress bar.
    save_file(network.encoder.state_dict(), folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(tokenizer_file, folder / TOKENIZER)
    save_file(network.task_heads.state_dict(), folder / HEADS)
    document = [task.model_dump(mode="json") for task in network.tasks]
    (folder / TASKS).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_checkpoint(folder: Path) -> MultiTaskEncoder:
    """The network that was written to `folder`, all its heads, without dropout.

    Raises UsageError where it can't be read.
    """
    try:
        tasks = _TASK_LIST.validate_json((folder / TASKS).read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(f"{folder / TASKS}: can't be read: {' '.join(str(error).split())[:200]}") from error
    network = load_base(folder, tasks, 0.0, folder / TOKENIZER)
    if len(adopt_heads(network, folder)) < len(tasks):
        raise UsageError(f"{folder}: heads that can't be read: {HEADS} has not all of {TASKS}")
    network.eval()
    return network


def adopt_heads(network: MultiTaskEncoder, base: Path) -> tuple[str, ...]:
    """Take over the heads of checkpoint `base` whose task has the same name, kind and labels; their names.

    None where `base` is an encoder alone. Raises UsageError where its heads can't be read.
    """
    if not (base / TASKS).is_file():
        return ()
    try:
        tasks = _TASK_LIST.validate_json((base / TASKS).read_bytes())
        weights = load_file(base / HEADS)
        adopted = []
        for index, task in enumerate(network.tasks):
            if task in tasks:
                there = tasks.index(task)
                head = {name: weights[f"{there}.{name}"] for name in ("weight", "bias")}
                network.task_heads[index].load_state_dict(head)
                adopted.append(task.name)
    except (OSError, ValidationError, SafetensorError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"base = {str(base)!r}: heads that can't be read: {reason}") from error
    return tuple(adopted)
