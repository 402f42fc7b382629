"""Compares the quantization schemes of one float32 graph on dev, and mends those that lose too much.

Owns the order: quantize, score all in one interleaved run, mend, score what was mended, choose. Leaves making
graphs to `candidates`, the rule to `choice`, scoring to its caller. Called by `package`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from modelkit.compress.calibration import Batches
from modelkit.compress.candidates import Bench, Candidate, QuantizationReport, Remedy, Source, remedy
from modelkit.compress.catalogue import CATALOGUE, scheme_of
from modelkit.compress.choice import MAX_LOSS, choose, company_fault, loss, loss_fault, verdicts
from modelkit.data.examples import EvaluationSet, Tasks
from modelkit.inference import Graph
from modelkit.recipe import PackageOptions
from modelkit.scoring.evaluate import BASELINE, EvaluationReport, Say, VariantScore, open_graphs

Score = Callable[[Mapping[str, Graph]], EvaluationReport]
Train = Callable[[str, Path], None]  # with that scheme's rounding, to that file


@dataclass(frozen=True)
class Given:
    """What is compared on: a fused float32 graph, texts to calibrate with, and the dev split.

    `score` scores graphs on dev; `train` is None where no training was asked for.
    """

    fp32: Path
    batches: Batches
    tasks: Tasks
    dev: EvaluationSet
    score: Score
    train: Train | None


@dataclass(frozen=True)
class Comparison:
    """Every candidate with its scores. `chosen` is the one for int8, if one passes."""

    report: QuantizationReport
    candidates: Mapping[str, Candidate]
    chosen: str | None

    @property
    def scores(self) -> dict[str, VariantScore]:
        return {score.variant: score for score in self.report.variants}

    def of_scheme(self, scheme: str) -> Candidate:
        """What stands for a scheme: the first that keeps its scores, else the one that loses least."""
        scores = self.scores
        own = [candidate for candidate in self.candidates.values() if candidate.scheme == scheme]
        kept = [one for one in own if loss_fault(scores[one.name], scores[BASELINE]) is None]
        return min(kept or own, key=lambda one: 0.0 if kept else loss(scores[one.name], scores[BASELINE]))


def compare(
    given: Given, names: Sequence[str], options: PackageOptions, folder: Path, say: Say
) -> Comparison:
    """The schemes `names` of the catalogue; graphs are written to `folder`."""
    source = Source.of(given.fp32, given.batches)
    bench = Bench(folder, given.tasks, given.dev, say)
    candidates = {}
    for name in names:
        say(f"quantizing: {name}")
        candidates[name] = bench.quantized(source, name, name)
    report = given.score(_graphs(given, candidates))
    baseline, *_ = report.variants
    remedies = []
    for score in _to_mend(report, options):
        before = candidates[score.variant]
        mended = _mended(before, loss(score, baseline), bench, baseline, given.train, options)
        if not mended:
            continue
        chain = {one.name: one for one in [before, *mended]}
        more = given.score(_graphs(given, chain)).variants
        rated = {one.variant: one for one in more}
        candidates |= chain
        report = report.model_copy(
            update={"variants": (*report.variants, *(rated[one.name] for one in mended))}
        )
        remedies += _told([before, *mended], rated, options.qat_epochs)
    result = QuantizationReport(
        **report.model_dump(exclude={"variants"}),
        variants=report.variants,
        remedies=tuple(remedies),
        verdicts=verdicts(report.variants, _eligible(report)),
    )
    return Comparison(result, candidates, _chosen(report))


def _eligible(report: EvaluationReport) -> set[str]:
    """The candidates for int8."""
    names = (score.variant for score in report.variants if score.variant != BASELINE)
    return {name for name in names if CATALOGUE[scheme_of(name)].for_int8}


def _chosen(report: EvaluationReport) -> str | None:
    names = {BASELINE, *_eligible(report)}
    return choose([score for score in report.variants if score.variant in names])


def _to_mend(report: EvaluationReport, options: PackageOptions) -> list[VariantScore]:
    """Those that lose too much and are wanted: by name, or, where no 8-bit scheme passes, all of them.

    Mending takes longer than comparing: with one that passes, a default that does not is let go.
    """
    baseline, *others = report.variants
    named = {*options.schemes, *options.keep}
    return [
        score
        for score in others
        if loss_fault(score, baseline) is not None
        and company_fault(score) is None
        and CATALOGUE[score.variant].served
        and (score.variant in named or _chosen(report) is None)
    ]


def _mended(
    candidate: Candidate,
    lost: float,
    bench: Bench,
    baseline: VariantScore,
    train: Train | None,
    options: PackageOptions,
) -> list[Candidate]:
    """What was made of a candidate that loses too much: with training if it was asked for, then, where that
    is not enough, with parts in float32."""
    made = []
    if train is not None and CATALOGUE[candidate.scheme].trainable:
        candidate = bench.trained(candidate, train)
        made.append(candidate)
        lost = bench.loss(candidate, baseline)
    if options.fall_back and CATALOGUE[candidate.scheme].divisible and lost > MAX_LOSS:
        left = bench.with_parts_left(candidate, lost, baseline)
        made += [] if left is None else [left]
    return made


def _told(chain: Sequence[Candidate], rated: Mapping[str, VariantScore], epochs: int) -> list[Remedy]:
    return [remedy(one, before, 0 if one.left else epochs, rated) for before, one in pairwise(chain)]


def _graphs(given: Given, candidates: Mapping[str, Candidate]) -> dict[str, Graph]:
    files = {BASELINE: given.fp32, **{name: one.file for name, one in candidates.items()}}
    return open_graphs(files, given.tasks)
