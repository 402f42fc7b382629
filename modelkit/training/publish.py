"""Writes a trained network as a model directory: graph, checkpoint, scores.

Called by `finetune` and `distil`. Needs the `train` extra.

    OUT/model.yaml, tokenizer.json, fp32/model.onnx   the model directory
    OUT/checkpoint/                                   encoder and heads, to go on from (`checkpoint`)
    OUT/report.json, confusion-TASK.html              the scores on test, or on dev where there is no test
    OUT/.cache/resume.pt                              while training lasts: its state after the last epoch
    OUT/.cache/spent-N.json                           while training lasts: what process N has spent
    OUT/.cache/new/                                   where too much was forgotten, what would have been OUT
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tokenizers import Tokenizer

from minwatt.v1.model_dir import ModelDirectory, ModelSpec, Task, TokenizerFile, sha256_of
from modelkit.data.dataset import DEV, Dataset
from modelkit.export import OPSET, export
from modelkit.package import quiet, variant_in, variant_path
from modelkit.recipe import DistilOptions, FinetuneOptions
from modelkit.release.provenance import digests
from modelkit.release.provenance import provenance as origin
from modelkit.scoring.confusion_document import confusion_document
from modelkit.scoring.evaluate import BASELINE
from modelkit.scoring.finetune_report import REPORT_FILE, FinetuneReport, Forgetting, TrainingEnergy
from modelkit.staging import Staging, stale_line
from modelkit.training.base import BASE_REQUIREMENT, CHECKPOINT, HUB, TOKENIZER, WEIGHTS
from modelkit.training.checkpoint import write_checkpoint
from modelkit.training.hearers import Hearers
from modelkit.training.network import MultiTaskEncoder
from modelkit.training.network_scores import score
from report.page import as_html
from report.provenance import provenance

RESUME = "resume.pt"


@dataclass(frozen=True)
class Trained:
    """A network that is trained, and what there is to say of that."""

    network: MultiTaskEncoder
    tokenizer: Tokenizer
    energy: TrainingEnergy
    notes: tuple[str, ...]
    forgetting: tuple[Forgetting, ...] = ()
    max_forgetting: float = 0.0


def publish(
    trained: Trained,
    datasets: Sequence[Dataset],
    options: FinetuneOptions | DistilOptions,
    stage: Staging,
    hearers: Hearers,
) -> FinetuneReport:
    """Export and score it, and let `stage` with its tokenizer become the model directory.

    Where more was forgotten than allowed, all of it stays in `stage`.
    """
    network, tokenizer = trained.network, trained.tokenizer
    hearers.say("exporting")
    with quiet():
        export(network, stage.new / variant_path(BASELINE))
    write_checkpoint(network, stage.new / TOKENIZER, stage.new / CHECKPOINT)
    report = FinetuneReport(
        model=options.name,
        version=options.version,
        fp32_sha256=sha256_of(stage.new / variant_path(BASELINE)),
        tasks=tuple(
            score(network, one.task, tokenizer, one.splits[one.scored_split], one.scored_split)
            for one in datasets
        ),
        notes=trained.notes,
        forgetting=trained.forgetting,
        published=all(one.lost <= trained.max_forgetting for one in trained.forgetting),
        energy=trained.energy,
    )
    (stage.new / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for one in report.tasks:
        if one.kind == "classification":
            page = stage.new / f"confusion-{one.task}.html"
            page.write_text(as_html(confusion_document(one, provenance(watts=None))), encoding="utf-8")
    tasks = tuple(dataset.task for dataset in datasets)
    ModelDirectory(stage.new, _spec(tasks, report, options, stage.new)).save()
    if report.published:
        if stale := stage.publish():
            hearers.say(stale_line(stale, stage.out))
        for kept in (stage.cache / RESUME, *stage.cache.glob("spent-*.json")):
            kept.unlink(missing_ok=True)
    return report


def _spec(
    tasks: Sequence[Task], report: FinetuneReport, options: FinetuneOptions | DistilOptions, folder: Path
) -> ModelSpec:
    metrics = {one.metric: round(one.score, 4) for one in report.tasks if one.split != DEV}
    fp32 = variant_in(folder, BASELINE).model_copy(update={"metrics": metrics})
    return ModelSpec(
        name=options.name,
        version=options.version,
        description=options.description,
        provenance=origin(
            base=_base_of(options),
            weights=folder / CHECKPOINT / WEIGHTS,
            data=digests(options.tasks, {}, tuple(tasks)),
            command=None,
            opset=OPSET,
            now=datetime.now(UTC),
        ),
        max_tokens=options.served_tokens or options.training.max_tokens,
        tokenizer=TokenizerFile(sha256=sha256_of(folder / TOKENIZER)),
        tasks=tuple(tasks),
        default_variant=BASELINE,
        variants={BASELINE: fp32},
    )


def _base_of(options: FinetuneOptions | DistilOptions) -> str:
    """What the weights were before, without the path that it lay at."""
    base = options.teacher if isinstance(options, DistilOptions) else options.base
    if base is None:
        return BASE_REQUIREMENT
    return str(base) if str(base).startswith(HUB) else base.resolve().name
