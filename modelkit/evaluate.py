"""Scores a model directory's variants: accuracy, entity F1, batch company, speed, size.

Needs no torch. Answers are decoded by `minwatt.v1.decode`, as they are served. Leaves running a graph to
`inference`, timing to `speed`, examples to `examples`, tables to `report`. Called by `cli` and `build`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from minwatt.v1.decode import EncodedText, entity_spans, softmax
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from modelkit.data import Span
from modelkit.examples import EvaluationSet, Source, Tasks, load_evaluation_set
from modelkit.inference import Graph, Logits, Runner, load_tokenizer, run_all, run_batch
from modelkit.speed import STANDARD_SPEED, SpeedOptions, relative_speeds

BASELINE = "fp32"
DEFAULT_SETS = {"intent": "banking77", "entities": "uner_ewt"}
SPLITS = ("train", "dev", "test")

Say = Callable[[str], None]


class VariantScore(BaseModel):
    """What one variant scores on one split; every share lies in [0, 1]."""

    model_config = ConfigDict(frozen=True)

    variant: str
    accuracy: float
    entity_precision: float
    entity_recall: float
    entity_f1: float
    company_texts: int  # texts answered alone and again among others
    company_label_flips: int
    company_entity_flips: int
    company_largest_change: float  # of any probability
    speed_vs_fp32: float | None  # None where there is no fp32 to compare with
    size_mb: float


class EvaluationReport(BaseModel):
    """The scores of a model's variants on one split of one pair of sets."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    split: str
    sets: dict[str, str]
    texts: int
    sentences: int
    variants: tuple[VariantScore, ...]


@dataclass(frozen=True)
class CompanyOptions:
    """The batch-company check: `texts` texts, each alone and in a batch of `batch_size` at random."""

    texts: int = 480
    batch_size: int = 16
    seed: int = 1


STANDARD_COMPANY = CompanyOptions()


@dataclass(frozen=True)
class CompanyResult:
    """What changed when texts were answered among others and not alone."""

    texts: int
    label_flips: int
    entity_flips: int
    largest_change: float


def evaluate(
    model_dir: Path,
    data_dir: Path,
    variants: Sequence[str] = (),
    split: str = "test",
    sets: Mapping[str, str] = DEFAULT_SETS,
    say: Say = lambda _: None,
) -> EvaluationReport:
    """Score `variants` (all that are on disk if none is named) on `split` of the sets in `data_dir`.

    `sets` maps a task's name to a folder of `data_dir`; `say` hears one line a step.
    Raises UsageError on a bad model directory or variant, DataError on bad data.
    """
    if split not in SPLITS:
        raise UsageError(f"split = {split!r}: allowed are {', '.join(SPLITS)}")
    directory = ModelDirectory.open(model_dir)
    chosen = tuple(variants) or directory.present_variants()
    if not chosen:
        listed = ", ".join(directory.spec.variants)
        raise UsageError(f"{model_dir}: no variant is on disk; model.yaml lists {listed}")
    tasks = Tasks.of(directory.spec)
    graphs = {name: Graph(directory.variant_file(name), tasks.outputs) for name in chosen}
    for name, graph in graphs.items():
        _same_columns(f"{model_dir}: variant {name!r}", graph, tasks)
    tokenizer = load_tokenizer(directory.tokenizer_file(), directory.spec.max_tokens)
    examples = load_evaluation_set(tasks, tokenizer, Source(data_dir, split, sets))
    return EvaluationReport(
        model=directory.spec.name,
        version=directory.spec.version,
        split=split,
        sets=dict(sets),
        texts=len(examples.texts),
        sentences=len(examples.sentences),
        variants=score_graphs(graphs, examples, say),
    )


def score_graphs(
    graphs: Mapping[str, Graph],
    examples: EvaluationSet,
    say: Say,
    company: CompanyOptions = STANDARD_COMPANY,
    speed: SpeedOptions = STANDARD_SPEED,
) -> tuple[VariantScore, ...]:
    """Score every graph on the same texts; speeds come from one interleaved run of all of them."""
    speeds: dict[str, float] = {}
    if BASELINE in graphs and len(graphs) > 1:
        say("timing the variants against one another")
        token_ids = [token for encoded in examples.encoded_texts for token in encoded.ids]
        speeds = relative_speeds(graphs, BASELINE, token_ids, speed)
    scores = []
    for name, graph in graphs.items():
        say(f"scoring {name}")
        precision, recall, f1 = entity_scores(graph, examples)
        result = company_check(graph, examples, company)
        scores.append(
            VariantScore(
                variant=name,
                accuracy=intent_accuracy(graph, examples),
                entity_precision=precision,
                entity_recall=recall,
                entity_f1=f1,
                company_texts=result.texts,
                company_label_flips=result.label_flips,
                company_entity_flips=result.entity_flips,
                company_largest_change=result.largest_change,
                speed_vs_fp32=1.0 if name == BASELINE else speeds.get(name),
                size_mb=graph.size_bytes / 1e6,
            )
        )
    return tuple(scores)


def _same_columns(where: str, graph: Graph, tasks: Tasks) -> None:
    """Raises UsageError when a head has not one column a label."""
    for task in (tasks.intent, tasks.entities):
        columns, labels = graph.columns[task.output], len(task.labels)
        if isinstance(columns, int) and columns != labels:
            raise UsageError(
                f"{where}: output {task.output!r} has {columns} columns, model.yaml {labels} labels"
            )


def intent_accuracy(graph: Runner, examples: EvaluationSet) -> float:
    """Share of texts whose best label is the right one."""
    right = sum(
        int(logits.intents.argmax()) == examples.texts[index].label
        for index, logits in run_all(graph, examples.encoded_texts)
    )
    return right / len(examples.texts)


def entity_scores(graph: Runner, examples: EvaluationSet) -> tuple[float, float, float]:
    """Micro precision, recall and F1 of entities; one counts when start, end and label are all right."""
    right = found = expected = 0
    for index, logits in run_all(graph, examples.encoded_sentences):
        answer = spans_of(logits, examples.encoded_sentences[index], examples.tags)
        truth = frozenset(examples.sentences[index].spans)
        right += len(answer & truth)
        found += len(answer)
        expected += len(truth)
    return (
        right / found if found else 0.0,
        right / expected if expected else 0.0,
        2 * right / (found + expected) if found + expected else 0.0,
    )


def spans_of(logits: Logits, encoded: EncodedText, tags: Sequence[str]) -> frozenset[Span]:
    """The served entities of one text, of any score."""
    spans = entity_spans(logits.tags, encoded, tags, min_score=0.0)
    return frozenset(Span(span.start, span.end, span.label) for span in spans)


def company_check(graph: Runner, examples: EvaluationSet, options: CompanyOptions) -> CompanyResult:
    """Answer texts of both sets alone and again in random batches; count what changed."""
    generator = random.Random(options.seed)
    pool = [*examples.encoded_texts, *examples.encoded_sentences]
    chosen = generator.sample(pool, min(options.texts, len(pool)))
    label_flips = entity_flips = 0
    largest_change = 0.0
    for first in range(0, len(chosen), options.batch_size):
        batch = chosen[first : first + options.batch_size]
        for encoded, among in zip(batch, run_batch(graph, batch), strict=True):
            [alone] = run_batch(graph, [encoded])
            label_flips += int(alone.intents.argmax() != among.intents.argmax())
            entity_flips += spans_of(alone, encoded, examples.tags) != spans_of(among, encoded, examples.tags)
            largest_change = max(largest_change, _largest_change(alone, among))
    return CompanyResult(len(chosen), label_flips, entity_flips, largest_change)


def _largest_change(one: Logits, other: Logits) -> float:
    return max(
        float(np.abs(softmax(one.intents) - softmax(other.intents)).max()),
        float(np.abs(softmax(one.tags) - softmax(other.tags)).max()),
    )
