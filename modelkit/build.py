"""Builds a model directory from data: train, export, package.

Owns the order of the steps. Leaves each step to its module. Called by the `minwatt` command.
Needs the `train` extra.

    OUT/model.yaml, tokenizer.json, int8/model.onnx   the model directory
    OUT/fp32/model.onnx                               not shipped: four times the size
    OUT/quantization.json                             every scheme's scores on dev
    OUT/.cache/                                       base weights, trained weights, the schemes' graphs
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, Task, TokenizerFile, sha256_of
from modelkit.data.examples import FolderSource, Tasks, load_evaluation_set
from modelkit.data.formats import read_labels, read_tags
from modelkit.export import export
from modelkit.inference import OUTPUTS, load_tokenizer, read_tokenizer
from modelkit.package import PackageResult, package, quiet, refuse_bad_name, variant_in, variant_path
from modelkit.recipe import BuildOptions, PackageOptions
from modelkit.scoring.answers import answers_of, entity_scores, intent_accuracy
from modelkit.scoring.evaluate import BASELINE, SPLITS, Say
from modelkit.staging import staging
from modelkit.training.base import TOKENIZER, base_directory
from modelkit.training.batches import LearningTask
from modelkit.training.network import MultiTaskEncoder, NetworkRunner, load_base
from modelkit.training.train import Hooks, Progress, TrainingData, train

INTENT, ENTITIES = "intent", "entities"

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Hearers:
    """Who hears of progress: lines of text, and training steps (done, of all)."""

    say: Say
    advance: Advance


def build(options: BuildOptions, hearers: Hearers) -> PackageResult:
    """Do everything, from data to a scored model directory.

    Raises UsageError (DataError among them) on bad data or options, or a full disk.
    """
    tasks = read_tasks(options)
    _refuse_late_mistakes(tasks, options)
    with staging(options.out_dir) as stage:
        base = base_directory(options.base, stage.cache)
        write_tokenizer(base, stage.new)
        torch.manual_seed(options.training.seed)
        untrained = load_base(base, tasks, options.training.dropout)
        network = _train(untrained, tasks, options, stage.new / TOKENIZER, hearers)
        with (stage.cache / "trained.pt").open("wb") as stream:  # given a path, torch tells no OSError
            torch.save(network.state_dict(), stream)
        hearers.say("exporting")
        with quiet():
            export(network, stage.new / variant_path(BASELINE))
        draft = ModelDirectory(stage.new, _spec(tasks, options, stage.new))
        draft.save()
        return package(draft, stage, PackageOptions(options.data_dir, options.sets), hearers.say)


def read_tasks(options: BuildOptions) -> tuple[Task, Task]:
    """The intent and the entity task, with the labels of their sets."""
    for task in (INTENT, ENTITIES):
        if task not in options.sets:
            raise UsageError(f"sets: none for task {task!r}; the two tasks are {INTENT} and {ENTITIES}")
    intents = read_labels(options.data_dir / options.sets[INTENT] / "labels.txt")
    tags = read_tags(options.data_dir / options.sets[ENTITIES] / "labels.txt")
    return (
        Task(name=INTENT, kind="classification", output=OUTPUTS[0], labels=intents),
        Task(name=ENTITIES, kind="ner", output=OUTPUTS[1], labels=tags),
    )


def _refuse_late_mistakes(tasks: tuple[Task, Task], options: BuildOptions) -> None:
    """Everything of the user's that is otherwise first read after half an hour of training."""
    refuse_bad_name(options.name, options.version)
    for split in SPLITS:
        source = FolderSource(options.data_dir, split, options.sets)
        source.texts(tasks[0])
        source.annotated(tasks[1])


def write_tokenizer(base: Path, folder: Path) -> None:
    """The base tokenizer without padding and truncation (the base file pads every text to 128 tokens)."""
    # Its own `save` raises a bare Exception where a disk is full.
    (folder / TOKENIZER).write_text(read_tokenizer(base / TOKENIZER).to_str(pretty=True), encoding="utf-8")


def _train(
    network: MultiTaskEncoder,
    tasks: tuple[Task, Task],
    options: BuildOptions,
    tokenizer_file: Path,
    hearers: Hearers,
) -> MultiTaskEncoder:
    source = FolderSource(options.data_dir, "train", options.sets)
    training = options.training
    intent, entities = tasks
    texts, sentences = source.texts(intent), source.annotated(entities)
    data = TrainingData(
        tasks=(
            LearningTask(intent, texts, training.hide_text_probability),
            LearningTask(entities, sentences, training.hide_sentence_probability, training.swap_probability),
        ),
        tokenizer=load_tokenizer(tokenizer_file, training.max_tokens),
    )
    served = load_tokenizer(tokenizer_file, options.max_tokens)
    dev = load_evaluation_set(
        Tasks(intent, entities), served, FolderSource(options.data_dir, "dev", options.sets)
    )

    def report(progress: Progress, network: MultiTaskEncoder) -> None:
        answers = answers_of(NetworkRunner(network), dev)
        intent_loss, entity_loss = progress.losses
        accuracy, (_, _, f1) = intent_accuracy(answers, dev), entity_scores(answers, dev) or (None,) * 3
        hearers.say(
            f"epoch {progress.epoch} of {progress.epochs}: losses {intent_loss:.3f} and "
            f"{entity_loss:.3f}; dev accuracy {_shown(accuracy)}, entity F1 {_shown(f1)}"
        )

    hearers.say(f"training on {len(texts)} texts and {len(sentences)} sentences, {training.epochs} epochs")
    return train(network, data, training, Hooks(report, hearers.advance))


def _shown(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"


def _spec(tasks: tuple[Task, Task], options: BuildOptions, folder: Path) -> ModelSpec:
    """Of the unquantized model in `folder`."""
    return ModelSpec(
        name=options.name,
        version=options.version,
        description=options.description,
        max_tokens=options.max_tokens,
        tokenizer=TokenizerFile(sha256=sha256_of(folder / TOKENIZER)),
        tasks=tasks,
        default_variant=BASELINE,
        variants={BASELINE: variant_in(folder, BASELINE)},
    )
