"""Fine-tunes one encoder on its owner's texts and writes a model directory of it.

Owns the order of the steps and the answers that are scored. Leaves data to `dataset`, optimisation to
`train`, scores to `task_scores` and `class_scores`. Called by the `minwatt` command. Needs the `train` extra.

    OUT/model.yaml, tokenizer.json, fp32/model.onnx   the model directory
    OUT/checkpoint/                                   encoder and heads, to go on from (`checkpoint`)
    OUT/report.json, confusion-TASK.html              the scores on test, or on dev where there is no test
    OUT/.cache/resume.pt                              while training lasts: its state after the last epoch
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer

from minwatt.v1.decode import EncodedText, Floats, entity_spans
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, TokenizerFile, sha256_of
from modelkit.data.dataset import DEV, TRAIN, Dataset, Example, TaskFiles, read_datasets, unserved
from modelkit.data.texts import AnnotatedText, LabelledText, Span
from modelkit.export import export
from modelkit.inference import encode, load_tokenizer, pad
from modelkit.package import quiet, refuse_bad_name, variant_in, variant_path
from modelkit.recipe import DistilOptions, FinetuneOptions
from modelkit.scoring.class_scores import class_task_score
from modelkit.scoring.confusion_page import confusion_page
from modelkit.scoring.evaluate import BASELINE
from modelkit.scoring.task_scores import FinetuneReport, TaskScore, entity_task_score
from modelkit.staging import Staging, staging
from modelkit.training.base import TOKENIZER, WEIGHTS, base_directory, write_tokenizer
from modelkit.training.batches import LearningTask
from modelkit.training.checkpoint import HEADS, ResumeFile, adopt_heads, write_checkpoint
from modelkit.training.hearers import Hearers
from modelkit.training.network import MultiTaskEncoder, load_base
from modelkit.training.train import Hooks, Progress, TrainingData, train

CHECKPOINT, REPORT, RESUME = "checkpoint", "report.json", "resume.pt"
_ENCODED_AT_A_TIME = 1024
_BATCH = 32


def finetune(options: FinetuneOptions, hearers: Hearers) -> FinetuneReport:
    """From data to a scored model directory; after a kill, from the last whole epoch on.

    Raises UsageError (DataError among them) on bad data or options, or a full disk.
    """
    refuse_bad_name(options.name, options.version)
    datasets, auxiliary, notes = read_tasks(options.tasks, options.auxiliary, hearers)
    with staging(options.out_dir) as stage:
        base = base_directory(options.base, stage.cache)
        tokenizer_file = write_tokenizer(base, stage.new, options.cased)
        tokenizer = load_tokenizer(tokenizer_file, options.training.max_tokens)
        torch.manual_seed(options.training.seed)
        learnt = [dataset.task for dataset in (*datasets, *auxiliary)]
        untrained = load_base(base, learnt, options.training.dropout, tokenizer_file)
        refuse_long_texts(untrained, options)
        if adopted := adopt_heads(untrained, base):
            hearers.say(f"going on from the heads of {', '.join(adopted)}")
        resume = ResumeFile(stage.cache / RESUME, told(options, base, cased=options.cased))
        data = TrainingData([learning(one, options) for one in (*datasets, *auxiliary)], tokenizer)
        hooks = Hooks(judge(datasets, tokenizer, hearers), hearers.advance)
        sizes = ", ".join(f"{one.task.name} {len(one.splits[TRAIN])}" for one in (*datasets, *auxiliary))
        hearers.say(f"training on {sizes} examples, up to {options.training.epochs} epochs")
        network = train(untrained, data, options.training, hooks, resume)
        report = publish(network.first(len(datasets)), datasets, tokenizer, options, notes, stage, hearers)
        resume.path.unlink(missing_ok=True)
    return report


def read_tasks(
    tasks: Sequence[TaskFiles], auxiliary: Sequence[TaskFiles], hearers: Hearers
) -> tuple[Sequence[Dataset], Sequence[Dataset], tuple[str, ...]]:
    """The tasks, the auxiliary ones, and the notes on them, which are told."""
    datasets = read_datasets((*tasks, *auxiliary))
    own = datasets[: len(tasks)]
    notes = (*(note for dataset in datasets for note in dataset.notes), *unserved([one.task for one in own]))
    for note in notes:
        hearers.say(note)
    return own, datasets[len(tasks) :], notes


def publish(
    network: MultiTaskEncoder,
    datasets: Sequence[Dataset],
    tokenizer: Tokenizer,
    options: FinetuneOptions | DistilOptions,
    notes: tuple[str, ...],
    stage: Staging,
    hearers: Hearers,
) -> FinetuneReport:
    """Export and score a trained network, and let `stage` with its tokenizer become the model directory."""
    hearers.say("exporting")
    with quiet():
        export(network, stage.new / variant_path(BASELINE))
    write_checkpoint(network, stage.new / TOKENIZER, stage.new / CHECKPOINT)
    report = FinetuneReport(
        model=options.name,
        version=options.version,
        tasks=tuple(
            score(network, head, tokenizer, dataset, dataset.scored_split)
            for head, dataset in enumerate(datasets)
        ),
        notes=notes,
    )
    text = report.model_dump_json(indent=2) + "\n"
    (stage.new / REPORT).write_text(text, encoding="utf-8")
    for one in report.tasks:
        if one.kind == "classification":
            page = stage.new / f"confusion-{one.task}.html"
            page.write_text(confusion_page(one), encoding="utf-8")
    ModelDirectory(stage.new, _spec(datasets, report, options, stage.new)).save()
    stage.publish()
    return report


def score(
    network: MultiTaskEncoder, head: int, tokenizer: Tokenizer, dataset: Dataset, split: str
) -> TaskScore:
    """What the network's head of that number scores on a split of its task."""
    examples, task = dataset.splits[split], dataset.task
    texts = [example.text for example in examples]
    if task.kind == "classification":
        answers: dict[int, int] = {}
        for index, logits, _ in _logits(network, head, tokenizer, texts):
            answers[index] = int(logits.argmax())
        truths = [example.label for example in examples if isinstance(example, LabelledText)]
        return class_task_score(
            task.name, split, truths, [answers[i] for i in range(len(texts))], task.labels
        )
    found: dict[int, frozenset[Span]] = {}
    for index, logits, encoded in _logits(network, head, tokenizer, texts):
        spans = entity_spans(logits, encoded, task.labels, min_score=0.0)
        found[index] = frozenset(Span(span.start, span.end, span.label) for span in spans)
    annotated = [example for example in examples if isinstance(example, AnnotatedText)]
    entities = sorted({tag[2:] for tag in task.labels[1:]})
    return entity_task_score(task.name, split, annotated, [found[i] for i in range(len(texts))], entities)


def class_weights(examples: Sequence[Example], labels: int) -> tuple[float, ...]:
    """All texts over the label's share of them if all were as many: a label of half as many counts twice."""
    counts = Counter(example.label for example in examples if isinstance(example, LabelledText))
    return tuple(counts.total() / (labels * counts[label]) for label in range(labels))


def _logits(
    network: MultiTaskEncoder, head: int, tokenizer: Tokenizer, texts: Sequence[str]
) -> Iterator[tuple[int, Floats, EncodedText]]:
    """(index, logits, encoded) of every text, in order of length within those encoded at a time."""
    for first in range(0, len(texts), _ENCODED_AT_A_TIME):
        encoded = encode(tokenizer, texts[first : first + _ENCODED_AT_A_TIME])
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            ids, mask = (torch.from_numpy(array) for array in pad([encoded[index] for index in batch]))
            with torch.inference_mode():
                logits = network.logits(head, network.hidden(ids, mask), mask).numpy()
            for row, index in enumerate(batch):
                yield first + index, logits[row], encoded[index]


def judge(
    datasets: Sequence[Dataset], tokenizer: Tokenizer, hearers: Hearers
) -> Callable[[Progress, MultiTaskEncoder], float]:
    """What is said of an epoch; it gives the mean of the tasks' scores on dev."""

    def judged(progress: Progress, network: MultiTaskEncoder) -> float:
        scores = [score(network, head, tokenizer, one, DEV) for head, one in enumerate(datasets)]
        lines = "; ".join(
            f"{one.task}: loss {loss:.3f}, dev {one.metric.rpartition('.')[2]} {one.score:.4f}"
            for one, loss in zip(scores, progress.losses, strict=False)  # of other losses nothing is scored
        )
        hearers.say(f"epoch {progress.epoch} of {progress.epochs}: {lines}")
        return sum(one.score for one in scores) / len(scores)

    return judged


def learning(dataset: Dataset, options: FinetuneOptions | DistilOptions) -> LearningTask:
    """What a head learns from, and how it is varied."""
    training, examples = options.training, dataset.splits[TRAIN]
    if dataset.task.kind == "ner":
        return LearningTask(
            dataset.task,
            examples,
            training.hide_sentence_probability,
            training.swap_probability,
            lower_probability=training.lower_probability,
        )
    weights = class_weights(examples, len(dataset.task.labels)) if options.class_weights else None
    return LearningTask(
        dataset.task,
        examples,
        training.hide_text_probability,
        weights=weights,
        lower_probability=training.lower_probability,
    )


def told(options: FinetuneOptions | DistilOptions, base: Path, **more: object) -> dict[str, str]:
    """What a training must have in common with one that it goes on from. `base`: what it begins with."""
    auxiliary = options.auxiliary if isinstance(options, FinetuneOptions) else ()
    digests = {f"data of {files.name}": files.digest() for files in (*options.tasks, *auxiliary)}
    weights = {name: sha256_of(base / name) for name in (WEIGHTS, HEADS) if (base / name).is_file()}
    names = {"tasks": " ".join(files.name for files in options.tasks), "torch": torch.__version__}
    chosen = asdict(options.training) | {"class_weights": options.class_weights} | more
    return {name: str(value) for name, value in (names | digests | weights | chosen).items()}


def refuse_long_texts(network: MultiTaskEncoder, options: FinetuneOptions | DistilOptions) -> None:
    """Raises UsageError where texts are longer than the encoder has positions for."""
    most = network.encoder.config.max_position_embeddings
    for tokens in (options.training.max_tokens, options.served_tokens or options.training.max_tokens):
        if not 8 <= tokens <= most:
            raise UsageError(f"max-tokens = {tokens}: allowed: 8 to {most}, the encoder's positions")


def _spec(
    datasets: Sequence[Dataset],
    report: FinetuneReport,
    options: FinetuneOptions | DistilOptions,
    folder: Path,
) -> ModelSpec:
    metrics = {one.metric: round(one.score, 4) for one in report.tasks if one.split != DEV}
    fp32 = variant_in(folder, BASELINE).model_copy(update={"metrics": metrics})
    return ModelSpec(
        name=options.name,
        version=options.version,
        description=options.description,
        max_tokens=options.served_tokens or options.training.max_tokens,
        tokenizer=TokenizerFile(sha256=sha256_of(folder / TOKENIZER)),
        tasks=tuple(dataset.task for dataset in datasets),
        default_variant=BASELINE,
        variants={BASELINE: fp32},
    )
