"""Scores a model's variants: accuracy, entity F1, answers unlike fp32's, batch company, speed, size.

Needs no torch. Leaves running a graph to `inference`, its answers to `answers`, timing to `speed`, examples
to `examples`, tables to `report`. Called by `commands` and `package`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from minwatt.v1.decode import softmax
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec
from modelkit.card.speed import STANDARD_SPEED, SpeedOptions, relative_speeds
from modelkit.data.examples import Data, EvaluationSet, Source, Tasks, load_evaluation_set, source_of
from modelkit.inference import Graph, Logits, Provider, Runner, load_tokenizer, run_batch
from modelkit.scoring.answers import answers_of, changed_share, entity_scores, intent_accuracy, spans_of

BASELINE = "fp32"
DEFAULT_SETS = {"intent": "banking77", "entities": "uner_ewt"}
SPLITS = ("train", "dev", "test")

Say = Callable[[str], None]


class VariantScore(BaseModel):
    """What one variant scores on one split; every share lies in [0, 1].

    What compares with fp32 is None where there is no fp32; the scores of a task that the model has not are.
    """

    model_config = ConfigDict(frozen=True)

    variant: str
    accuracy: float | None
    entity_precision: float | None
    entity_recall: float | None
    entity_f1: float | None
    changed_labels: float | None  # share of texts with another label than fp32's
    changed_entities: float | None  # share of sentences with another set of entities than fp32's
    company_texts: int  # texts answered alone and again among others
    company_label_flips: int
    company_entity_flips: int
    company_largest_change: float  # of any probability
    speed_vs_fp32: float | None
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
    data: Data,
    variants: Sequence[str] = (),
    split: str = "test",
    sets: Mapping[str, str] = DEFAULT_SETS,
    say: Say = lambda _: None,
) -> EvaluationReport:
    """Score `variants` (all that are on disk if none is named) on `split` of `data`.

    `sets` maps a task's name to a folder where `data` is a folder of them; `say` hears one line a step.
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
    graphs = open_graphs({name: directory.variant_file(name) for name in chosen}, tasks)
    tokenizer = load_tokenizer(directory.tokenizer_file(), directory.spec.max_tokens)
    source = source_of(data, split, sets)
    return report_of(directory.spec, source, graphs, load_evaluation_set(tasks, tokenizer, source), say)


def open_graphs(files: Mapping[str, Path], tasks: Tasks, provider: Provider = "cpu") -> dict[str, Graph]:
    """The variants' graphs by name. Raises UsageError when one is no graph or has not one column a label."""
    graphs = {name: Graph(file, tasks.outputs, provider) for name, file in files.items()}
    for name, graph in graphs.items():
        for task in tasks.present:
            columns, labels = graph.columns[task.output], len(task.labels)
            if isinstance(columns, int) and columns != labels:
                raise UsageError(
                    f"{files[name]}: output {task.output!r} has {columns} columns, model.yaml {labels} labels"
                )
    return graphs


def report_of(
    spec: ModelSpec, source: Source, graphs: Mapping[str, Graph], examples: EvaluationSet, say: Say
) -> EvaluationReport:
    """Score `graphs` of the model `spec` on `examples`, which `source` gave."""
    return EvaluationReport(
        model=spec.name,
        version=spec.version,
        split=source.split,
        sets=dict(source.sets),
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
    speeds = {BASELINE: 1.0} if BASELINE in graphs else {}
    if speeds and len(graphs) > 1:
        say("timing the variants against one another")
        token_ids = [token for encoded in examples.encoded_texts for token in encoded.ids]
        speeds = relative_speeds(graphs, BASELINE, token_ids, speed)
    answers = {}
    for name, graph in graphs.items():
        say(f"answering with {name}")
        answers[name] = answers_of(graph, examples)
    baseline = answers.get(BASELINE)
    scores = []
    for name, graph in graphs.items():
        say(f"scoring {name}")
        mine = answers[name]
        precision, recall, f1 = entity_scores(mine, examples) or (None, None, None)
        result = company_check(graph, examples, company)
        scores.append(
            VariantScore(
                variant=name,
                accuracy=intent_accuracy(mine, examples),
                entity_precision=precision,
                entity_recall=recall,
                entity_f1=f1,
                changed_labels=changed_share(mine.labels, baseline.labels) if baseline else None,
                changed_entities=changed_share(mine.entities, baseline.entities) if baseline else None,
                company_texts=result.texts,
                company_label_flips=result.label_flips,
                company_entity_flips=result.entity_flips,
                company_largest_change=result.largest_change,
                speed_vs_fp32=speeds.get(name),
                size_mb=graph.size_bytes / 1e6,
            )
        )
    return tuple(scores)


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
