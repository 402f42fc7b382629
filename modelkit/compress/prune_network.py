"""Takes out of a network what is asked for: what matters least, as much of each layer as the scan says.

Owns the order: importance, scan, plan, heads, units, ranks, zeros. Leaves each to its module, recovery and
writing to `prune`, its caller. Needs torch (the `train` extra).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from tokenizers import Tokenizer

from minwatt.v1.errors import UsageError
from modelkit.card.parameters import parameters_of
from modelkit.compress.dev_set import DevSet
from modelkit.compress.lowrank import RankChoice, chosen_ranks, factorise
from modelkit.compress.prune_importance import Importance, fisher, l1, least
from modelkit.compress.prune_options import PruneOptions
from modelkit.compress.prune_plan import plan_removal
from modelkit.compress.prune_report import Layer, Sensitivity, Size, Stage
from modelkit.compress.prune_structure import keep_heads, keep_units
from modelkit.compress.prune_zeros import matrices, zero_share, zero_smallest
from modelkit.compress.sensitivity import WIDTH_STEP, curves, scan, width_steps
from modelkit.data.dataset import DEV, TRAIN, Dataset
from modelkit.recipe import FinetuneOptions, TrainingOptions
from modelkit.scoring.task_scores import TaskScore
from modelkit.training.batches import Batches, LearningTask
from modelkit.training.finetune import score, told
from modelkit.training.hearers import Hearers
from modelkit.training.lean_encoder import layers_of, shape_of
from modelkit.training.network import MultiTaskEncoder

SCAN = "sensitivity.json"
SCANNED_EXAMPLES = 500  # of each task's dev
IMPORTANCE_BATCHES, IMPORTANCE_BATCH = 32, 32  # of each task's training examples


class _ScanFile(BaseModel):
    """A scan, and what it was told."""

    told: dict[str, str]
    found: tuple[Sensitivity, ...]


@dataclass(frozen=True)
class TrainedModel:
    """What is pruned, in place, and what it has learnt from."""

    network: MultiTaskEncoder
    datasets: tuple[Dataset, ...]
    tokenizer: Tokenizer

    def scores(self, split: str | None = None) -> tuple[TaskScore, ...]:
        """Of each task, on that split, or on test where there is one."""
        return tuple(
            score(self.network, head, self.tokenizer, dataset, split or dataset.scored_split)
            for head, dataset in enumerate(self.datasets)
        )

    def stage(self, name: str) -> Stage:
        return Stage(stage=name, dev={one.metric: one.score for one in self.scores(DEV)})

    def layers(self) -> tuple[Layer, ...]:
        config = self.network.encoder.config
        return tuple(
            Layer.model_validate(shape_of(layer, config).model_dump())
            for layer in layers_of(self.network.encoder)
        )

    def size(self, graph: Path) -> Size:
        return Size(
            parameters=parameters_of(graph),
            bytes=graph.stat().st_size,
            products=sum(matrix.weight.numel() for _, _, matrix in matrices(self.network)),
            zeros=zero_share(self.network),
        )


def take_out(
    model: TrainedModel, options: PruneOptions, base: Path, cache: Path, hearers: Hearers
) -> tuple[Sensitivity, ...]:
    """Scan, plan and prune, in place: heads, units, then ranks of what is left, then zeros. The scan."""
    network = model.network
    importance = _importance(model, options, hearers)
    found = _scan(model, importance, options, base, cache, hearers)
    shapes = [shape_of(layer, network.encoder.config) for layer in layers_of(network.encoder)]
    if options.heads:
        present = [shape.heads for shape in shapes]
        gone = _plan("heads", found, present, options.heads, hearers)
        keep_heads(network, _kept(importance.heads, gone))
    if options.width:
        present = [width_steps(shape) for shape in shapes]
        gone = _plan("width", found, present, options.width, hearers)
        keep_units(network, _kept(importance.units, [steps * WIDTH_STEP for steps in gone]))
    if options.is_low_rank:
        ranks = chosen_ranks(network, RankChoice(options.rank, options.energy))
        if not ranks:
            raise UsageError("rank: no feed-forward matrix gets smaller by it; allowed: a lower one")
        factorise(network, ranks)
    if options.zeros:
        zero_smallest(network, options.zeros)
    return found


def _importance(model: TrainedModel, options: PruneOptions, hearers: Hearers) -> Importance:
    if options.importance == "l1" or not (options.heads or options.width):
        return l1(model.network)
    hearers.say("weighing heads and units by training texts")
    batches = []
    for dataset in model.datasets:
        task = LearningTask(dataset.task, dataset.splits[TRAIN], hide_probability=0.0)
        stream = Batches(task, model.tokenizer, IMPORTANCE_BATCH, options.training.seed)
        batches.append(list(islice(stream.starting_at(0), IMPORTANCE_BATCHES)))
    return fisher(model.network, batches)


def _scan(
    model: TrainedModel,
    importance: Importance,
    options: PruneOptions,
    base: Path,
    cache: Path,
    hearers: Hearers,
) -> tuple[Sensitivity, ...]:
    """The scan of this model on this data; one that is there already is not made again."""
    few = TrainingOptions(seed=options.training.seed, max_tokens=options.training.max_tokens)
    what = (
        f"{bool(options.heads)} {bool(options.width)} {bool(options.zeros)} {options.rank} {options.energy}"
    )
    finetuning = FinetuneOptions(options.tasks, options.out_dir, options.name, base, training=few)
    scan_told = told(finetuning, base, scanned=f"{what} {options.importance}")
    file = cache / SCAN
    before = _read_scan(file)
    if before is not None and before.told == scan_told:
        hearers.say(f"going on from the scan in {file}")
        return before.found
    hearers.say("scanning what each part loses alone")
    dev = DevSet(model.datasets, model.tokenizer, SCANNED_EXAMPLES, options.training.seed)
    found = scan(model.network, dev, importance, options, hearers.advance)
    file.write_text(_ScanFile(told=scan_told, found=found).model_dump_json(indent=2), encoding="utf-8")
    return found


def _read_scan(file: Path) -> _ScanFile | None:
    """None where there is none, or none that was written whole."""
    try:
        return _ScanFile.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _plan(
    part: str, found: Sequence[Sensitivity], present: Sequence[int], share: float, hearers: Hearers
) -> list[int]:
    wanted = max(1, round(share * sum(present)))
    try:
        gone = plan_removal(curves(found, part, len(present)), present, wanted)
    except ValueError as error:
        raise UsageError(f"{part} = {share}: {error}") from error
    left = " ".join(f"{now - less}/{now}" for now, less in zip(present, gone, strict=True))
    hearers.say(f"{part} by layer{'' if part == 'heads' else f', in steps of {WIDTH_STEP}'}: {left}")
    return gone


def _kept(importance: Sequence[torch.Tensor], gone: Sequence[int]) -> list[list[int]]:
    kept = []
    for of_layer, count in zip(importance, gone, strict=True):
        removed = frozenset(least(of_layer, count))
        kept.append([piece for piece in range(len(of_layer)) if piece not in removed])
    return kept
