"""The graphs that are compared: a scheme as it is, and what is done where it loses too much on dev.

Owns their names and files, and the two remedies: parts left in float32, and training with the scheme's
rounding. Leaves the rewrites to `schemes`, the search to `fall_back`, training to `quantization_aware`, the
choice to `choice`. Called by `package`. Needs onnx (the `train` extra).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from pydantic import BaseModel, ConfigDict, Field

from modelkit.compress.calibration import Batches, Calibration
from modelkit.compress.catalogue import LEFT, TRAINED
from modelkit.compress.choice import MAX_LOSS, loss
from modelkit.compress.fall_back import divergence, fewest_left, most_sensitive
from modelkit.compress.graph import parts, save
from modelkit.compress.schemes import quantized
from modelkit.data.examples import EvaluationSet, Tasks
from modelkit.inference import Graph
from modelkit.scoring.answers import answers_of, entity_scores, intent_accuracy
from modelkit.scoring.evaluate import BASELINE, EvaluationReport, Say, VariantScore, open_graphs

_SENSITIVITY_BATCHES = 4


@dataclass(frozen=True)
class Source:
    """A fused float32 graph that schemes are applied to."""

    file: Path
    model: onnx.ModelProto
    calibration: Calibration

    @classmethod
    def of(cls, file: Path, batches: Batches) -> Source:
        model = onnx.load(file)
        return cls(file, model, Calibration(model, batches))


@dataclass(frozen=True)
class Candidate:
    """A quantized graph; `left` are the parts of its source that stay float32."""

    name: str
    scheme: str
    source: Source
    file: Path
    left: tuple[str, ...] = ()


class Remedy(BaseModel):
    """What was done about a scheme's drop on dev, and what that costs. Sizes in megabytes, speeds in those of
    fp32; `lost` is of accuracy or F1, the larger."""

    model_config = ConfigDict(frozen=True)

    candidate: str
    instead_of: str
    epochs: int  # of training with the scheme's rounding; 0: none was done for this candidate
    left: tuple[str, ...]
    parts: int  # that the graph has
    lost_before: float
    lost: float
    size_mb_before: float
    size_mb: float
    speed_before: float | None
    speed: float | None

    def line(self) -> str:
        """In words."""
        done = (
            f"{len(self.left)} of {self.parts} parts in float32 ({', '.join(map(_short, self.left))})"
            if self.left
            else f"{self.epochs} epochs of training with its rounding"
        )
        speed = (
            ""
            if not self.speed or not self.speed_before
            else (f", speed {self.speed_before:.2f} to {self.speed:.2f}")
        )
        return (
            f"{self.candidate}: {done}; loss {self.lost_before:.4f} to {self.lost:.4f}, "
            f"{self.size_mb_before:.1f} to {self.size_mb:.1f} MB{speed}"
        )


class QuantizationReport(EvaluationReport):
    """Every candidate's scores on dev; `verdicts` says of each why it is the chosen one or not."""

    remedies: tuple[Remedy, ...] = ()
    verdicts: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Makes candidates in `folder`, and measures what they lose on `dev`."""

    folder: Path
    tasks: Tasks
    dev: EvaluationSet
    say: Say

    def quantized(self, source: Source, scheme: str, name: str, left: Sequence[str] = ()) -> Candidate:
        """`source` by `scheme`, but for the parts in `left`."""
        file = self.folder / f"{name}.onnx"
        save(quantized(scheme, source.model, source.calibration, frozenset(left)), file)
        return Candidate(name, scheme, source, file, tuple(left))

    def loss(self, candidate: Candidate, baseline: VariantScore) -> float:
        """On dev, of accuracy or F1 against fp32's, the larger."""
        answers = answers_of(self._open(candidate.file), self.dev)
        scores = entity_scores(answers, self.dev)
        score = baseline.model_copy(
            update={
                "accuracy": intent_accuracy(answers, self.dev),
                "entity_f1": None if scores is None else scores[2],
            }
        )
        return loss(score, baseline)

    def trained(self, candidate: Candidate, train: Callable[[str, Path], None]) -> Candidate:
        """The scheme on weights that `train(scheme, file)` has made used to its rounding."""
        name = candidate.name + TRAINED
        file = self.folder / f"{name}.fp32.onnx"
        train(candidate.scheme, file)
        source = Source.of(file, candidate.source.calibration.batches)
        return self.quantized(source, candidate.scheme, name)

    def with_parts_left(self, candidate: Candidate, lost: float, baseline: VariantScore) -> Candidate | None:
        """The scheme with its most sensitive parts in float32, as few as bring its loss within the limit.

        Where half of the parts don't, with those that lose the least; None where none gains anything.
        """
        source, scheme = candidate.source, candidate.scheme
        batches = source.calibration.batches
        chosen = batches[:: max(1, len(batches) // _SENSITIVITY_BATCHES)]
        original = self._open(source.file)
        expected = [original.run(*batch) for batch in chosen]
        everything = parts(source.model)
        scratch = f"{candidate.name}.alone"

        def alone(part: str) -> float:
            self.say(f"{candidate.name}: what {_short(part)} alone does ({len(everything)} parts)")
            left = [other for other in everything if other != part]
            graph = self._open(self.quantized(source, scheme, scratch, left).file)
            return divergence(graph, chosen, expected)

        def with_left(left: Sequence[str]) -> float:
            self.say(f"{candidate.name}: {len(left)} parts in float32")
            return self.loss(self.quantized(source, scheme, candidate.name + LEFT, left), baseline)

        try:
            left = fewest_left(most_sensitive(everything, alone), with_left, MAX_LOSS, lost)
        finally:
            (self.folder / f"{scratch}.onnx").unlink(missing_ok=True)
        if not left:
            (self.folder / f"{candidate.name}{LEFT}.onnx").unlink(missing_ok=True)
            return None
        return self.quantized(source, scheme, candidate.name + LEFT, left)

    def _open(self, file: Path) -> Graph:
        return open_graphs({file.stem: file}, self.tasks)[file.stem]


def remedy(
    candidate: Candidate, before: Candidate, epochs: int, scores: Mapping[str, VariantScore]
) -> Remedy:
    """What `candidate`, made from `before`, gains and costs, by the scores of one run of both and fp32."""
    now, then, baseline = scores[candidate.name], scores[before.name], scores[BASELINE]
    return Remedy(
        candidate=candidate.name,
        instead_of=before.name,
        epochs=epochs,
        left=candidate.left,
        parts=len(parts(candidate.source.model)),
        lost_before=loss(then, baseline),
        lost=loss(now, baseline),
        size_mb_before=then.size_mb,
        size_mb=now.size_mb,
        speed_before=then.speed_vs_fp32,
        speed=now.speed_vs_fp32,
    )


def _short(part: str) -> str:
    """A node's name without what all have in common."""
    return part.replace("/encoder/encoder/", "").removesuffix("/MatMul").replace("/dense", "")
