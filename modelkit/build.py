"""Builds a model directory from data: train, export, quantize, score, choose, write.

Owns the order of the steps. Leaves each step to its module. Called by the `minwatt` command.
Needs the `train` extra.

    OUT/model.yaml, tokenizer.json, int8/model.onnx   the model directory
    OUT/fp32/model.onnx                               not shipped: four times the size
    OUT/quantization.json                             every scheme's scores on dev
    OUT/.cache/                                       base weights, trained weights, the schemes' graphs
"""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, Name, Task, TokenizerFile, Variant, sha256_of
from modelkit.base import TOKENIZER, base_directory
from modelkit.choice import choose
from modelkit.data import read_labelled_texts, read_labels, read_tagged_sentences, read_tags
from modelkit.evaluate import (
    BASELINE,
    SPLITS,
    EvaluationReport,
    Say,
    entity_scores,
    evaluate,
    intent_accuracy,
    score_graphs,
)
from modelkit.examples import EvaluationSet, Source, Tasks, load_evaluation_set
from modelkit.export import export
from modelkit.inference import OUTPUTS, Graph, Ids, load_tokenizer, pad, read_tokenizer
from modelkit.network import HeadSizes, NetworkRunner, TwoHeadEncoder, load_base
from modelkit.quantize import save
from modelkit.recipe import BuildOptions
from modelkit.schemes import COMPARED_ONLY, quantized_variants
from modelkit.train import Hooks, Progress, TrainingData, train

INTENT, ENTITIES = "intent", "entities"
QUANTIZED = "int8"

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Hearers:
    """Who hears of progress: lines of text, and training steps (done, of all)."""

    say: Say
    advance: Advance


@dataclass(frozen=True)
class BuildResult:
    """Scores of every quantization scheme on dev, the scheme that was shipped, and the test scores."""

    schemes: EvaluationReport
    shipped_scheme: str
    test: EvaluationReport


def build(options: BuildOptions, hearers: Hearers) -> BuildResult:
    """Do everything, from data to a scored model directory.

    Raises UsageError (DataError among them) on bad data or options.
    """
    cache = options.out_dir / ".cache"
    tasks = read_tasks(options)
    _refuse_late_mistakes(tasks, options)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"out = {str(options.out_dir)!r}: can't be written ({error.strerror})") from error
    base = base_directory(options.base, cache)
    write_tokenizer(base, options.out_dir)
    sizes = HeadSizes(len(tasks.intent.labels), len(tasks.entities.labels))
    torch.manual_seed(options.training.seed)
    network = _train(load_base(base, sizes, options.training.dropout), tasks, options, hearers)
    torch.save(network.state_dict(), cache / "trained.pt")
    return package(network, tasks, options, hearers.say)


def package(network: TwoHeadEncoder, tasks: Tasks, options: BuildOptions, say: Say) -> BuildResult:
    """Export a trained network, quantize it, choose on dev and write the directory with its test scores."""
    out, cache = options.out_dir, options.out_dir / ".cache"
    files = {BASELINE: out / BASELINE / "model.onnx"}
    with _quiet():
        say("exporting")
        export(network, files[BASELINE])
        dev = _examples(tasks, options, "dev")
        say("quantizing")
        for name, model in quantized_variants(files[BASELINE], _calibration(tasks, options)).items():
            files[name] = cache / "schemes" / f"{name}.onnx"
            save(model, files[name])
    scores = score_graphs({name: Graph(file) for name, file in files.items()}, dev, say)
    schemes = EvaluationReport(
        model=options.name,
        version=options.version,
        split="dev",
        sets=dict(options.sets),
        texts=len(dev.texts),
        sentences=len(dev.sentences),
        variants=scores,
    )
    (out / "quantization.json").write_text(schemes.model_dump_json(indent=2) + "\n", encoding="utf-8")
    shipped = choose([score for score in scores if score.variant != COMPARED_ONLY])
    say(f"shipping {shipped}")
    target = out / QUANTIZED / "model.onnx"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(files[shipped], target)
    return BuildResult(schemes, shipped, _write_directory(tasks, options, say))


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


def write_tokenizer(base: Path, out_dir: Path) -> None:
    """The base tokenizer without padding and truncation (the base file pads every text to 128 tokens)."""
    out_dir.mkdir(parents=True, exist_ok=True)
    read_tokenizer(base / TOKENIZER).save(str(out_dir / TOKENIZER))


def _train(network: TwoHeadEncoder, tasks: Tasks, options: BuildOptions, hearers: Hearers) -> TwoHeadEncoder:
    source = Source(options.data_dir, "train", options.sets)
    data = TrainingData(
        texts=read_labelled_texts(source.folder(tasks.intent) / "train.jsonl", tasks.intent.labels),
        sentences=read_tagged_sentences(source.folder(tasks.entities) / "train.conll", tasks.entities.labels),
        tags=tasks.entities.labels,
        tokenizer=load_tokenizer(options.out_dir / TOKENIZER, options.training.max_tokens),
    )
    dev = _examples(tasks, options, "dev")

    def report(progress: Progress, network: TwoHeadEncoder) -> None:
        runner = NetworkRunner(network)
        accuracy, (_, _, f1) = intent_accuracy(runner, dev), entity_scores(runner, dev)
        hearers.say(
            f"epoch {progress.epoch} of {progress.epochs}: losses {progress.intent_loss:.3f} and "
            f"{progress.entity_loss:.3f}; dev accuracy {accuracy:.4f}, entity F1 {f1:.4f}"
        )

    texts, sentences = len(data.texts), len(data.sentences)
    hearers.say(f"training on {texts} texts and {sentences} sentences, {options.training.epochs} epochs")
    return train(network, data, options.training, Hooks(report, hearers.advance))


def _examples(tasks: Tasks, options: BuildOptions, split: str) -> EvaluationSet:
    tokenizer = load_tokenizer(options.out_dir / TOKENIZER, options.max_tokens)
    return load_evaluation_set(tasks, tokenizer, Source(options.data_dir, split, options.sets))


def _calibration(tasks: Tasks, options: BuildOptions) -> list[tuple[Ids, Ids]]:
    """Padded batches of training texts of both sets, drawn at random: dev and test stay unseen."""
    examples = _examples(tasks, options, "train")
    generator = random.Random(options.training.seed)
    chosen: list[EncodedText] = []
    for pool in (examples.encoded_texts, examples.encoded_sentences):
        chosen += generator.sample(pool, min(options.calibration_texts, len(pool)))
    chosen.sort(key=len)
    return [pad(chosen[first : first + 16]) for first in range(0, len(chosen), 16)]


def _write_directory(tasks: Tasks, options: BuildOptions, say: Say) -> EvaluationReport:
    """Write model.yaml, score the test split, and write it again with the scores in it."""
    out = options.out_dir
    files = {name: out / name / "model.onnx" for name in (QUANTIZED, BASELINE)}
    variants = {
        name: Variant(file=f"{name}/model.onnx", sha256=sha256_of(file), size_bytes=file.stat().st_size)
        for name, file in files.items()
    }
    ModelDirectory(out, _spec(tasks, options, variants)).save()
    report = evaluate(out, options.data_dir, (BASELINE, QUANTIZED), "test", options.sets, say)
    scored = {
        score.variant: variants[score.variant].model_copy(
            update={
                "metrics": {
                    f"{INTENT}.accuracy": round(score.accuracy, 4),
                    f"{ENTITIES}.f1": round(score.entity_f1, 4),
                }
            }
        )
        for score in report.variants
    }
    ModelDirectory(out, _spec(tasks, options, {name: scored[name] for name in variants})).save()
    return report


def _spec(tasks: Tasks, options: BuildOptions, variants: dict[str, Variant]) -> ModelSpec:
    return ModelSpec(
        name=options.name,
        version=options.version,
        description=options.description,
        max_tokens=options.max_tokens,
        tokenizer=TokenizerFile(sha256=sha256_of(options.out_dir / TOKENIZER)),
        tasks=(tasks.intent, tasks.entities),
        default_variant=QUANTIZED,
        variants=variants,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """The optimizer and the stock quantizers log every node they touch or pass over."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
