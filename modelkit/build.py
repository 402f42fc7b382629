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
from pydantic import TypeAdapter, ValidationError

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, Name, Task, TokenizerFile, sha256_of
from modelkit.answers import answers_of, entity_scores, intent_accuracy
from modelkit.base import TOKENIZER, base_directory
from modelkit.data import read_labelled_texts, read_labels, read_tagged_sentences, read_tags
from modelkit.evaluate import BASELINE, SPLITS, Say
from modelkit.examples import Source, Tasks, load_evaluation_set
from modelkit.export import export
from modelkit.inference import OUTPUTS, load_tokenizer, read_tokenizer
from modelkit.network import HeadSizes, NetworkRunner, TwoHeadEncoder, load_base
from modelkit.package import PackageResult, package, quiet, variant_in, variant_path
from modelkit.recipe import BuildOptions, PackageOptions
from modelkit.staging import staging
from modelkit.train import Hooks, Progress, TrainingData, train

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
        sizes = HeadSizes(len(tasks.intent.labels), len(tasks.entities.labels))
        torch.manual_seed(options.training.seed)
        untrained = load_base(base, sizes, options.training.dropout)
        network = _train(untrained, tasks, options, stage.new / TOKENIZER, hearers)
        with (stage.cache / "trained.pt").open("wb") as stream:  # given a path, torch tells no OSError
            torch.save(network.state_dict(), stream)
        hearers.say("exporting")
        with quiet():
            export(network, stage.new / variant_path(BASELINE))
        draft = ModelDirectory(stage.new, _spec(tasks, options, stage.new))
        draft.save()
        return package(draft, stage, PackageOptions(options.data_dir, options.sets), hearers.say)


def read_tasks(options: BuildOptions) -> Tasks:
    """Both tasks with the labels of their sets."""
    for task in (INTENT, ENTITIES):
        if task not in options.sets:
            raise UsageError(f"sets: none for task {task!r}; the two tasks are {INTENT} and {ENTITIES}")
    intents = read_labels(options.data_dir / options.sets[INTENT] / "labels.txt")
    tags = read_tags(options.data_dir / options.sets[ENTITIES] / "labels.txt")
    return Tasks(
        Task(name=INTENT, kind="classification", output=OUTPUTS[0], labels=intents),
        Task(name=ENTITIES, kind="ner", output=OUTPUTS[1], labels=tags),
    )


def _refuse_late_mistakes(tasks: Tasks, options: BuildOptions) -> None:
    """Everything of the user's that is otherwise first read after half an hour of training."""
    try:
        TypeAdapter(Name).validate_python(options.name)
    except ValidationError as error:
        allowed = "a-z and 0-9, with . _ - between them"
        raise UsageError(f"name = {options.name!r}: allowed: {allowed}") from error
    if not options.version:
        raise UsageError("version = '': allowed: any text that is not empty")
    for split in SPLITS:
        source = Source(options.data_dir, split, options.sets)
        read_labelled_texts(source.folder(tasks.intent) / f"{split}.jsonl", tasks.intent.labels)
        read_tagged_sentences(source.folder(tasks.entities) / f"{split}.conll", tasks.entities.labels)


def write_tokenizer(base: Path, folder: Path) -> None:
    """The base tokenizer without padding and truncation (the base file pads every text to 128 tokens)."""
    # Its own `save` raises a bare Exception where a disk is full.
    (folder / TOKENIZER).write_text(read_tokenizer(base / TOKENIZER).to_str(pretty=True), encoding="utf-8")


def _train(
    network: TwoHeadEncoder, tasks: Tasks, options: BuildOptions, tokenizer_file: Path, hearers: Hearers
) -> TwoHeadEncoder:
    source = Source(options.data_dir, "train", options.sets)
    data = TrainingData(
        texts=read_labelled_texts(source.folder(tasks.intent) / "train.jsonl", tasks.intent.labels),
        sentences=read_tagged_sentences(source.folder(tasks.entities) / "train.conll", tasks.entities.labels),
        tags=tasks.entities.labels,
        tokenizer=load_tokenizer(tokenizer_file, options.training.max_tokens),
    )
    served = load_tokenizer(tokenizer_file, options.max_tokens)
    dev = load_evaluation_set(tasks, served, Source(options.data_dir, "dev", options.sets))

    def report(progress: Progress, network: TwoHeadEncoder) -> None:
        answers = answers_of(NetworkRunner(network), dev)
        accuracy, (_, _, f1) = intent_accuracy(answers, dev), entity_scores(answers, dev)
        hearers.say(
            f"epoch {progress.epoch} of {progress.epochs}: losses {progress.intent_loss:.3f} and "
            f"{progress.entity_loss:.3f}; dev accuracy {accuracy:.4f}, entity F1 {f1:.4f}"
        )

    texts, sentences = len(data.texts), len(data.sentences)
    hearers.say(f"training on {texts} texts and {sentences} sentences, {options.training.epochs} epochs")
    return train(network, data, options.training, Hooks(report, hearers.advance))


def _spec(tasks: Tasks, options: BuildOptions, folder: Path) -> ModelSpec:
    """Of the unquantized model in `folder`."""
    return ModelSpec(
        name=options.name,
        version=options.version,
        description=options.description,
        max_tokens=options.max_tokens,
        tokenizer=TokenizerFile(sha256=sha256_of(folder / TOKENIZER)),
        tasks=(tasks.intent, tasks.entities),
        default_variant=BASELINE,
        variants={BASELINE: variant_in(folder, BASELINE)},
    )
