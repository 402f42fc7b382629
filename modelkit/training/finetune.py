"""Fine-tunes one encoder on its owner's texts and writes a model directory of it.

Owns the order of the steps. Leaves data to `dataset`, optimisation to `train`, scores to `network_scores`,
what was forgotten to `forgetting`, joules to `spent`. Called by the `minwatt` command. Needs the `train`
extra.

    OUT/model.yaml, tokenizer.json, fp32/model.onnx   the model directory
    OUT/checkpoint/                                   encoder and heads, to go on from (`checkpoint`)
    OUT/report.json, confusion-TASK.html              the scores on test, or on dev where there is no test
    OUT/.cache/resume.pt                              while training lasts: its state after the last epoch
    OUT/.cache/spent-N.json                           while training lasts: what process N has spent
    OUT/.cache/new/                                   where too much was forgotten, what would have been OUT
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, Task, TokenizerFile, sha256_of
from modelkit.build import Hearers, write_tokenizer
from modelkit.data.checks import Check
from modelkit.data.dataset import DEV, TRAIN, Dataset, Example, digest_of, unserved
from modelkit.data.texts import LabelledText
from modelkit.export import export
from modelkit.inference import load_tokenizer
from modelkit.package import quiet, refuse_bad_name, variant_in, variant_path
from modelkit.recipe import FinetuneOptions, TrainingOptions
from modelkit.scoring.confusion_page import confusion_page
from modelkit.scoring.evaluate import BASELINE
from modelkit.scoring.finetune_report import REPORT_FILE, FinetuneReport, Forgetting, TrainingEnergy
from modelkit.staging import Staging, staging
from modelkit.training.base import CONFIG, HEADS, TASKS, TOKENIZER, WEIGHTS, base_directory, known_tasks
from modelkit.training.batches import LearningTask
from modelkit.training.checkpoint import ResumeFile, adopt_heads, write_checkpoint
from modelkit.training.forgetting import forgetting, scores_before
from modelkit.training.network import MultiTaskEncoder, load_base
from modelkit.training.network_scores import score
from modelkit.training.processes import Processes, launched
from modelkit.training.spent import Spent, note_on, open_training_meter
from modelkit.training.train import Hooks, Progress, TrainingData, train

CHECKPOINT, RESUME = "checkpoint", "resume.pt"


@dataclass(frozen=True)
class _Trained:
    """A network that is trained, on what, from what, and what that took."""

    network: MultiTaskEncoder
    tokenizer: Tokenizer
    before: Sequence[float]  # each check's score
    energy: TrainingEnergy


def finetune(
    options: FinetuneOptions, datasets: Sequence[Dataset], checks: Sequence[Check], hearers: Hearers
) -> FinetuneReport | None:
    """From data (`read_datasets` of the options' tasks, `read_checks` of its checks) to a scored model
    directory; after a kill, from the last whole epoch on.

    Where more was forgotten than allowed, the report says so and the model directory stays as it was. Of
    several processes each calls this, and all but the main one say nothing, write nothing and get no
    report.

    Raises UsageError (DataError among them) on bad options, or a full disk.
    """
    refuse_bad_name(options.name, options.version)
    with launched(options.training.device) as processes:
        if not processes.is_main:
            hearers = Hearers(say=lambda _: None, advance=lambda *_: None)
        for note in (notes := _notes(options, datasets)):
            hearers.say(note)
        with staging(options.out_dir, writes=processes.is_main) as stage:
            processes.wait()  # until the main process has made room
            trained = _train(stage, datasets, options, hearers, processes, checks)
            if not processes.is_main:
                return None
            found = forgetting(checks, trained.before, trained.network, trained.tokenizer)
            return _write(stage, trained, datasets, (notes, found), options, hearers)


def _notes(options: FinetuneOptions, datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """On the data, and on what becomes of an earlier checkpoint's tasks."""
    given = {dataset.task.name for dataset in datasets}
    known = known_tasks(options.base)
    left = [task.name for task in known if task.name not in given]
    checked = {file.name for file in options.checks}
    unchecked = [task.name for task in known if task.name in given.difference(checked)]
    return (
        *(note for dataset in datasets for note in dataset.notes),
        *(f"{name}: a task of the checkpoint that is not given: its head is left out" for name in left),
        *(f"{name}: without --check {name}:FILE nobody knows what it forgets" for name in unchecked),
        *unserved([dataset.task for dataset in datasets]),
    )


def class_weights(examples: Sequence[Example], labels: int) -> tuple[float, ...]:
    """All texts over the label's share of them if all were as many: a label of half as many counts twice.

    A label without examples, known from an earlier checkpoint, takes part in the smoothing alone.
    """
    counts = Counter(example.label for example in examples if isinstance(example, LabelledText))
    return tuple(counts.total() / (labels * (counts[label] or counts.total())) for label in range(labels))


def _train(
    stage: Staging,
    datasets: Sequence[Dataset],
    options: FinetuneOptions,
    hearers: Hearers,
    processes: Processes,
    checks: Sequence[Check],
) -> _Trained:
    training = options.training
    base = processes.from_main(base_directory(options.base, stage.cache) if processes.is_main else Path())
    if processes.is_main:
        write_tokenizer(base, stage.new)
    processes.wait()
    tokenizer = load_tokenizer(stage.new / TOKENIZER, training.max_tokens)
    known = known_tasks(base)
    torch.manual_seed(training.seed)
    untrained = load_base(base, [dataset.task for dataset in datasets], training.dropout)
    _refuse_what_does_not_fit(untrained, tokenizer, training)
    if adopted := adopt_heads(untrained, base):
        hearers.say(f"going on from the heads of {', '.join(adopted)}")
    resume = ResumeFile(stage.cache / RESUME, _told(options, base, processes))
    if len(set(processes.of_all(_digest(resume.told)))) > 1:
        raise UsageError("task, from: not the same files to all processes; allowed: the same ones")
    before = scores_before(checks, base, known, tokenizer) if processes.is_main else ()
    data = TrainingData([_learning(dataset, options) for dataset in datasets], tokenizer)
    meter = open_training_meter(options.meter, _card(processes.device))
    with Spent(meter, stage.cache / f"spent-{processes.rank}.json", _digest(resume.told)) as spent:

        def step(done: int, total: int) -> None:
            spent.note()
            hearers.advance(done, total)

        def judge(progress: Progress, network: MultiTaskEncoder) -> float:
            return _judged(progress, network, datasets, tokenizer, hearers)

        sizes = ", ".join(f"{one.task.name} {len(one.splits[TRAIN])}" for one in datasets)
        where = f" in {processes.count} processes" if processes.count > 1 else ""
        hearers.say(f"training on {sizes} examples{where}, up to {training.epochs} epochs")
        network = train(untrained, data, training, Hooks(judge, step), resume, processes)
    parts = processes.of_all((spent.joules, spent.duration_s))
    joules = [part for part, _ in parts if part is not None]
    return _Trained(
        network=network,
        tokenizer=tokenizer,
        before=before,
        energy=TrainingEnergy.of(
            (meter.source, note_on(meter.source)),
            _device_name(processes.device),
            processes.count,
            (sum(joules) if len(joules) == len(parts) else None, max(seconds for _, seconds in parts)),
            options.gco2_per_kwh,
        ),
    )


def _judged(
    progress: Progress,
    network: MultiTaskEncoder,
    datasets: Sequence[Dataset],
    tokenizer: Tokenizer,
    hearers: Hearers,
) -> float:
    """The mean of the tasks' scores on dev; says each."""
    scores = [score(network, one.task, tokenizer, one.splits[DEV], DEV) for one in datasets]
    told = "; ".join(
        f"{one.task}: loss {loss:.3f}, dev {one.metric.rpartition('.')[2]} {one.score:.4f}"
        for one, loss in zip(scores, progress.losses, strict=True)
    )
    hearers.say(f"epoch {progress.epoch} of {progress.epochs}: {told}")
    return sum(one.score for one in scores) / len(scores)


def _write(
    stage: Staging,
    trained: _Trained,
    datasets: Sequence[Dataset],
    told: tuple[tuple[str, ...], tuple[Forgetting, ...]],
    options: FinetuneOptions,
    hearers: Hearers,
) -> FinetuneReport:
    network, tokenizer = trained.network, trained.tokenizer
    hearers.say("exporting")
    with quiet():
        export(network, stage.new / variant_path(BASELINE))
    write_checkpoint(network, stage.new / TOKENIZER, stage.new / CHECKPOINT)
    notes, found = told
    report = FinetuneReport(
        model=options.name,
        version=options.version,
        fp32_sha256=sha256_of(stage.new / variant_path(BASELINE)),
        tasks=tuple(
            score(network, one.task, tokenizer, one.splits[one.scored_split], one.scored_split)
            for one in datasets
        ),
        notes=notes,
        forgetting=found,
        published=all(one.lost <= options.max_forgetting for one in found),
        energy=trained.energy,
    )
    (stage.new / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for one in report.tasks:
        if one.kind == "classification":
            page = stage.new / f"confusion-{one.task}.html"
            page.write_text(confusion_page(one), encoding="utf-8")
    tasks = tuple(dataset.task for dataset in datasets)
    ModelDirectory(stage.new, _spec(tasks, report, options, stage.new)).save()
    if report.published:
        stage.publish()
        for kept in (stage.cache / RESUME, *stage.cache.glob("spent-*.json")):
            kept.unlink(missing_ok=True)
    return report


def _learning(dataset: Dataset, options: FinetuneOptions) -> LearningTask:
    training, examples = options.training, dataset.splits[TRAIN]
    if dataset.task.kind == "ner":
        return LearningTask(
            dataset.task, examples, training.hide_sentence_probability, training.swap_probability
        )
    weights = class_weights(examples, len(dataset.task.labels)) if options.class_weights else None
    return LearningTask(dataset.task, examples, training.hide_text_probability, weights=weights)


def _told(options: FinetuneOptions, base: Path, processes: Processes) -> dict[str, str]:
    """What a training must have in common with one that it goes on from."""
    digests = {f"data of {files.name}": digest_of(files.splits.values()) for files in options.tasks}
    replayed = {f"replay of {file.name}": digest_of([file.path]) for file in options.replay}
    there = [name for name in (CONFIG, WEIGHTS, TOKENIZER, HEADS, TASKS) if (base / name).is_file()]
    weights = {name: sha256_of(base / name) for name in there}
    names = {
        "tasks": " ".join(files.name for files in options.tasks),
        "torch": torch.__version__,
        "processes": str(processes.count),
        "runs on": processes.device.type,
    }
    chosen = asdict(options.training) | {"class_weights": options.class_weights}
    return {name: str(value) for name, value in (names | digests | replayed | weights | chosen).items()}


def _digest(told: object) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _card(device: torch.device) -> str | None:
    """The UUID of the card that computes; None on a CPU."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else None


def _device_name(device: torch.device) -> str:
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type


def _refuse_what_does_not_fit(
    network: MultiTaskEncoder, tokenizer: Tokenizer, training: TrainingOptions
) -> None:
    most = network.encoder.config.max_position_embeddings
    if not 8 <= training.max_tokens <= most:
        raise UsageError(f"max-tokens = {training.max_tokens}: allowed: 8 to {most}, the encoder's positions")
    words, tokens = network.encoder.config.vocab_size, tokenizer.get_vocab_size()
    if tokens > words:
        raise UsageError(f"base: {tokens} tokens in {TOKENIZER}, {words} in the weights; expected no more")


def _spec(tasks: Sequence[Task], report: FinetuneReport, options: FinetuneOptions, folder: Path) -> ModelSpec:
    metrics = {one.metric: round(one.score, 4) for one in report.tasks if one.split != DEV}
    fp32 = variant_in(folder, BASELINE).model_copy(update={"metrics": metrics})
    return ModelSpec(
        name=options.name,
        version=options.version,
        max_tokens=options.training.max_tokens,
        tokenizer=TokenizerFile(sha256=sha256_of(folder / TOKENIZER)),
        tasks=tuple(tasks),
        default_variant=BASELINE,
        variants={BASELINE: fp32},
    )
