"""The models that this protocol sees: one for each task that the server answers; how each describes itself.

Pure. `support-text` with the tasks `intent` and `entities` is `support-text.intent` and
`support-text.entities`: their outputs differ, and who names no outputs gets all of a model's. One model for
both would compute both for everyone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from minwatt.v1.model_dir import ModelDirectory, Task
from service.oip import open_inference_pb2 as pb
from service.statuses import unknown_model

TEXT = "TEXT"
LABELS, SCORES, ENTITIES, TRUNCATED = "LABELS", "SCORES", "ENTITIES", "TRUNCATED"
PLATFORM = "onnxruntime_onnx"
BACKEND = "minwatt"
PRIORITY_LEVELS = 2  # 1: interactive, the default; 2: batch
_TYPES = {"BYTES": pb.TYPE_STRING, "FP32": pb.TYPE_FP32, "BOOL": pb.TYPE_BOOL}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output: `width` columns a text, -1 where the request chooses."""

    name: str
    datatype: str
    width: int


_OUTPUTS: Mapping[str, Sequence[Tensor]] = {
    "classification": (
        Tensor(LABELS, "BYTES", -1),  # top_k a text, best first
        Tensor(SCORES, "FP32", -1),
        Tensor(TRUNCATED, "BOOL", 1),
    ),
    "ner": (
        Tensor(ENTITIES, "BYTES", 1),
        Tensor(TRUNCATED, "BOOL", 1),
    ),  # a text's entities as one JSON array
}


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One task under its name in this protocol."""

    name: str
    version: str
    variant: str
    max_tokens: int  # a text
    of: str  # the resident model's own name
    task: Task
    outputs: Mapping[str, Tensor]  # by name

    def metadata(self) -> pb.ModelMetadataResponse:
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=self.name,
            versions=[self.version],
            platform=PLATFORM,
            inputs=[tensor(name=TEXT, datatype="BYTES", shape=[-1, 1])],
            outputs=[
                tensor(name=o.name, datatype=o.datatype, shape=[-1, o.width]) for o in self.outputs.values()
            ],
        )

    def config(self, deployed: Deployed, max_delay_s: float) -> pb.ModelConfig:
        batching = pb.ModelDynamicBatching(
            max_queue_delay_microseconds=round(max_delay_s * 1e6),
            priority_levels=PRIORITY_LEVELS,
            default_priority_level=1,
        )
        on_cpu = deployed.provider == "cpu"
        device = pb.ModelInstanceGroup.KIND_CPU if on_cpu else pb.ModelInstanceGroup.KIND_GPU
        parameters = {
            "labels": json.dumps(self.task.labels, ensure_ascii=False),
            "max_tokens": str(self.max_tokens),
            "task": self.task.kind,
            "variant": self.variant,
        }
        return pb.ModelConfig(
            name=self.name,
            platform=PLATFORM,
            backend=BACKEND,
            max_batch_size=deployed.max_texts,
            input=[pb.ModelInput(name=TEXT, data_type=pb.TYPE_STRING, dims=[1])],
            output=[
                pb.ModelOutput(name=o.name, data_type=_TYPES[o.datatype], dims=[o.width])
                for o in self.outputs.values()
            ],
            instance_group=[pb.ModelInstanceGroup(name=f"{self.name}_0", count=1, kind=device)],
            dynamic_batching=batching,
            parameters={name: pb.ModelParameter(string_value=value) for name, value in parameters.items()},
            model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
        )


@dataclass(frozen=True, slots=True)
class Deployed:
    """How the models run here, as far as their configuration tells it."""

    provider: str
    max_texts: int  # a request


class Described(Protocol):
    """A resident model, as far as this protocol tells of it."""

    @property
    def directory(self) -> ModelDirectory: ...
    @property
    def variant(self) -> str: ...


class Residents(Protocol):
    """The models that are served now: another mapping once one came or went."""

    @property
    def by_name(self) -> Mapping[str, Described]: ...


def _models_of(resident: Described) -> Iterator[Model]:
    """One for each kind of task."""
    spec = resident.directory.spec
    for kind in dict.fromkeys(task.kind for task in spec.tasks):
        task = spec.task_of_kind(kind)
        if task is not None:
            yield Model(
                f"{spec.name}.{task.name}",
                spec.version,
                resident.variant,
                spec.max_tokens,
                spec.name,
                task,
                {tensor.name: tensor for tensor in _OUTPUTS[task.kind]},
            )


class Catalog:
    """The models by name, as they are resident now."""

    def __init__(self, residents: Residents) -> None:
        self._residents = residents
        self._of: Mapping[str, Described] | None = None
        self._models: Mapping[str, Model] = {}

    @property
    def models(self) -> Mapping[str, Model]:
        now = self._residents.by_name
        if now is not self._of:  # another one once a model came or went
            models = [model for resident in now.values() for model in _models_of(resident)]
            self._of, self._models = now, {model.name: model for model in models}
        return self._models

    def find(self, name: str, version: str) -> Model | None:
        """An empty version is the one that is served."""
        model = self.models.get(name)
        return model if model is not None and version in {"", model.version} else None

    def get(self, name: str, version: str) -> Model:
        """Raises Refusal: NOT_FOUND that lists the models."""
        model = self.find(name, version)
        if model is None:
            asked = f"{name} version {version}" if name in self.models else name
            raise unknown_model(asked, [f"{m.name} version {m.version}" for m in self.models.values()])
        return model
