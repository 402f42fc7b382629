"""Measures a model directory's variants for its energy card.

Owns the loads, the order of the steps and what is said of the machine. Leaves rounds to `speed`, answers to
`answers`, the figures' meaning to `measurements`, meters to `energy`. Called by `minwatt model card`. Needs
no torch.
"""

from __future__ import annotations

import math
import os
import platform
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from energy import PowerMeter, Reading
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from modelkit.card.measurements import (
    Card,
    GridIntensity,
    Machine,
    Meter,
    VariantCard,
    battery,
    comparisons,
    gco2_per_million_texts,
    timing,
    with_front,
)
from modelkit.card.parameters import parameters_of
from modelkit.card.resident import resident_bytes
from modelkit.card.speed import STANDARD_SPEED, ReadJoules, Round, interleaved, random_batch
from modelkit.data.examples import Data, EvaluationSet, Tasks, load_evaluation_set, source_of
from modelkit.inference import Graph, Ids, Provider, load_tokenizer, pad
from modelkit.scoring.answers import Answers, answers_of, entity_counts
from modelkit.scoring.evaluate import BASELINE, DEFAULT_SETS, SPLITS, Say, open_graphs
from modelkit.scoring.finetune_report import REPORT_FILE, FinetuneReport, TrainingEnergy
from modelkit.scoring.intervals import bootstrap_f1, wilson
from report.provenance import installed

LEAST_CALLS = 100  # of a load: fewer have no 99th percentile
OWN_BATCHES = 32  # drawn from the set's texts
LIBRARIES = ("minwatt", "onnxruntime", "onnxruntime-gpu", "tokenizers", "numpy")

Batches = Sequence[tuple[Ids, Ids]]


@dataclass(frozen=True)
class CardOptions:
    """What is measured. `round_s`: of the fastest variant; the others run the same batches."""

    data: Data
    sets: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SETS)
    split: str = "test"
    variants: Sequence[str] = ()
    provider: Provider = "cpu"
    batch: int = 8
    shapes: tuple[tuple[int, int], ...] = STANDARD_SPEED.shapes
    rounds: int = STANDARD_SPEED.rounds
    round_s: float = 0.5
    seed: int = STANDARD_SPEED.seed
    intensity: GridIntensity | None = None
    battery_wh: float | None = None


@dataclass(frozen=True)
class Metering:
    """An open meter, what the card says of it, and the name of the device that it reads."""

    meter: PowerMeter
    note: Meter
    device: str


@dataclass(frozen=True)
class _Opened:
    """A model's chosen variants, ready to run, and what they are run on."""

    directory: ModelDirectory
    outputs: tuple[str | None, str | None]
    files: Mapping[str, Path]
    graphs: Mapping[str, Graph]
    examples: EvaluationSet
    sets: Mapping[str, str]


def measure_card(model_dir: Path, options: CardOptions, metering: Metering, say: Say) -> Card:
    """Measure the variants named (all on disk if none is). `say` hears one line a step.

    Raises UsageError (DataError among them) on a bad model directory, variant or data.
    """
    opened = _open(model_dir, options)
    read_joules = _joules_of(metering.meter)
    before = _busy_s()
    own_batches = _own_batches(opened.examples, options)
    say(f"timing {', '.join(opened.graphs)} in turn on texts of the set, {options.batch} a batch")
    own = _rounds(opened.graphs, own_batches, options, read_joules)
    token_ids = [token for encoded in opened.examples.encoded_texts for token in encoded.ids]
    grid: dict[tuple[int, int], dict[str, list[Round]]] = {}
    for number, shape in enumerate(options.shapes):
        if shape[1] > opened.directory.spec.max_tokens:
            continue
        texts = "1 text" if shape[0] == 1 else f"{shape[0]} texts"
        say(f"timing them on {texts} of {shape[1]} tokens")
        batch = random_batch(shape, token_ids, options.seed + number)
        grid[shape] = _rounds(opened.graphs, [batch], options, read_joules)
    others = _others_busy_cores(before, _busy_s())
    variants, right = [], {}
    for name, graph in opened.graphs.items():
        say(f"scoring {name}")
        answers = answers_of(graph, opened.examples)
        right[name] = _right(answers, opened.examples)
        timed = {shape: rounds[name] for shape, rounds in grid.items()}
        variants.append(_variant(name, opened, options, answers, (own[name], timed)))
    return Card(
        model=opened.directory.spec.name,
        version=opened.directory.spec.version,
        measured_at=datetime.now(UTC),
        machine=_machine(metering.device, options.provider, others),
        meter=metering.note,
        split=options.split,
        sets=dict(opened.sets),
        texts=len(opened.examples.texts),
        sentences=len(opened.examples.sentences),
        rounds=options.rounds,
        round_s=options.round_s,
        seed=options.seed,
        intensity=options.intensity,
        battery_wh=options.battery_wh,
        variants=with_front(variants),
        comparisons=comparisons(options.batch, own, right),
        training=training_energy(opened.directory, options.intensity),
    )


def training_energy(directory: ModelDirectory, intensity: GridIntensity | None) -> TrainingEnergy | None:
    """What the model's training took, at the card's intensity if it has one.

    None where there is no report of it, or one of another graph than the fp32 one of model.yaml.
    """
    fp32 = directory.spec.variants.get(BASELINE)
    try:
        report = FinetuneReport.model_validate_json((directory.path / REPORT_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    if fp32 is None or report.fp32_sha256 != fp32.sha256:
        return None
    return report.energy if intensity is None else report.energy.at(intensity.gco2_per_kwh)


def _open(model_dir: Path, options: CardOptions) -> _Opened:
    if options.split not in SPLITS:
        raise UsageError(f"split = {options.split!r}: allowed are {', '.join(SPLITS)}")
    directory = ModelDirectory.open(model_dir)
    chosen = tuple(dict.fromkeys(options.variants)) or directory.present_variants()
    if not chosen:
        listed = ", ".join(directory.spec.variants)
        raise UsageError(f"{model_dir}: no variant is on disk; model.yaml lists {listed}")
    tasks = Tasks.of(directory.spec)
    if tasks.intent is None:
        raise UsageError(f"{model_dir}: ner alone; the card is of models that classify")
    files = {name: directory.variant_file(name) for name in chosen}
    tokenizer = load_tokenizer(directory.tokenizer_file(), directory.spec.max_tokens)
    source = source_of(options.data, options.split, options.sets)
    examples = load_evaluation_set(tasks, tokenizer, source)
    if len(examples.texts) < options.batch:
        texts = len(examples.texts)
        raise UsageError(f"batch = {options.batch}: the set has {texts} texts; allowed: at most as many")
    return _Opened(
        directory, tasks.outputs, files, open_graphs(files, tasks, options.provider), examples, source.sets
    )


def _own_batches(examples: EvaluationSet, options: CardOptions) -> Batches:
    """Texts at random, in batches of their own lengths, padded to the longest of each as they are served."""
    pool = list(examples.encoded_texts)
    random.Random(options.seed).shuffle(pool)
    full = min(OWN_BATCHES, len(pool) // options.batch)
    return [pad(pool[first * options.batch : (first + 1) * options.batch]) for first in range(full)]


def _rounds(
    graphs: Mapping[str, Graph], batches: Batches, options: CardOptions, read_joules: ReadJoules
) -> dict[str, list[Round]]:
    """As many calls a round as take the fastest graph `round_s`; the first pass warms up and counts not."""
    warm = interleaved(graphs, batches, 1, len(batches))
    fastest_s = min(sum(rounds[0].calls_s) / len(rounds[0].calls_s) for rounds in warm.values())
    calls = max(math.ceil(options.round_s / fastest_s), math.ceil(LEAST_CALLS / options.rounds))
    return interleaved(graphs, batches, options.rounds, calls, read_joules)


def _right(answers: Answers, examples: EvaluationSet) -> list[bool]:
    return [label == text.label for label, text in zip(answers.labels, examples.texts, strict=True)]


def _variant(
    name: str,
    opened: _Opened,
    options: CardOptions,
    answers: Answers,
    timed: tuple[Sequence[Round], Mapping[tuple[int, int], Sequence[Round]]],
) -> VariantCard:
    own_rounds, grid = timed
    own = timing(options.batch, None, own_rounds)
    hours, texts = battery(own, options.battery_wh)
    counts = entity_counts(answers, opened.examples)
    return VariantCard(
        variant=name,
        sha256=opened.directory.spec.variants[name].sha256,
        parameters=parameters_of(opened.files[name]),
        disk_bytes=opened.files[name].stat().st_size,
        resident_bytes=resident_bytes(opened.files[name], opened.outputs, options.provider),
        accuracy=wilson(sum(_right(answers, opened.examples)), len(opened.examples.texts)),
        entity_f1=bootstrap_f1(counts, options.seed) if counts else None,
        own=own,
        grid=tuple(timing(*shape, rounds) for shape, rounds in grid.items()),
        gco2_per_million_texts=gco2_per_million_texts(own, options.intensity),
        battery_hours=hours,
        battery_texts=texts,
        on_front=False,  # known once all are measured
    )


def _joules_of(meter: PowerMeter) -> ReadJoules:
    def read() -> tuple[float, float] | None:
        reading = meter.read()
        return (reading.joules_total, reading.at_s) if isinstance(reading, Reading) else None

    return read


def _machine(device: str, provider: Provider, others_busy_cores: float | None) -> Machine:
    return Machine(
        device=device,
        provider=provider,
        threads=1,
        system=platform.platform(),
        python=platform.python_version(),
        versions=installed(LIBRARIES),
        others_busy_cores=others_busy_cores,
    )


def _busy_s() -> tuple[float, float, float] | None:
    """(now, CPU seconds of the whole machine, of this process); None where the kernel does not tell."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, first[1:])
    busy_s = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return time.monotonic(), busy_s, time.process_time()


def _others_busy_cores(
    before: tuple[float, float, float] | None, after: tuple[float, float, float] | None
) -> float | None:
    if before is None or after is None or after[0] <= before[0]:
        return None
    elapsed_s, all_s, mine_s = (late - early for early, late in zip(before, after, strict=True))
    return round(max(0.0, all_s - mine_s) / elapsed_s, 2)
