"""A model directory as if it were resident: enough for what describes models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.model_dir import ModelDirectory
from service.dispatch import Dispatcher
from service.lifecycle.models import Models
from service.queue import BatchLimits
from service.service_time import ServiceTimeEstimate


@dataclass(frozen=True, eq=False)
class Described:
    directory: ModelDirectory
    variant: str
    dispatcher: Dispatcher

    @property
    def name(self) -> str:
        return self.directory.spec.name


def described(path: Path, variant: str = "int8") -> Described:
    dispatcher = Dispatcher(BatchLimits(16, 2048, 0.0), ServiceTimeEstimate(), 0.05)
    return Described(ModelDirectory.open(path), variant, dispatcher)


def only(path: Path) -> Models[Described]:
    return Models(described(path), lambda model: None)
