"""Prunes a trained model: scan, plan, take out, recover, measure, write.

Owns the order of the steps. Leaves what is read to `prune_source`, what goes to `prune_network`, the
recovery's data and loop to `training`. Called by `commands.prune`. Needs the `train` extra.

    OUT/model.yaml, tokenizer.json, fp32/model.onnx, checkpoint/   as `finetune` writes them
    OUT/report.json                                                what it came to (`prune_report`)
    OUT/.cache/sensitivity.json                                    the scan, for another try
    OUT/.cache/resume.pt                                           while recovery lasts: its last whole epoch
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, TokenizerFile, sha256_of
from modelkit.compress.prune_network import TrainedModel, take_out
from modelkit.compress.prune_options import PruneOptions
from modelkit.compress.prune_report import PruneReport, Speed, Stage, verdict
from modelkit.compress.prune_source import PruneSource
from modelkit.compress.prune_speed import measured_speed
from modelkit.compress.prune_zeros import hold_zeros, zero_share
from modelkit.data.dataset import DEV, TaskFiles, unserved
from modelkit.export import OPSET, export
from modelkit.inference import Graph, encode, load_tokenizer
from modelkit.package import quiet, refuse_bad_name, variant_in, variant_path
from modelkit.recipe import DistilWeights, FinetuneOptions
from modelkit.release.provenance import digests, provenance
from modelkit.scoring.evaluate import BASELINE
from modelkit.scoring.finetune_report import REPORT_FILE
from modelkit.staging import staging, stale_line
from modelkit.training.base import CHECKPOINT, TOKENIZER, WEIGHTS, write_tokenizer
from modelkit.training.checkpoint import ResumeFile, adopt_heads, write_checkpoint
from modelkit.training.distil_loss import DistilLoss
from modelkit.training.hearers import Hearers
from modelkit.training.learning import judge, learning, told
from modelkit.training.network import MultiTaskEncoder, load_base
from modelkit.training.objective import LabelLoss, Objective
from modelkit.training.processes import alone
from modelkit.training.publish import RESUME
from modelkit.training.train import Hooks, TrainingData, train

UNPRUNED, PRUNED, RECOVERED = "unpruned", "pruned", "recovered"


def prune(options: PruneOptions, source: PruneSource, hearers: Hearers) -> PruneReport:
    """From a model directory with its checkpoint to a leaner one; after a kill, from the last whole epoch on.

    `hearers.advance` hears parts tried, then steps trained (done, of all).

    Raises UsageError on a bad name or a checkpoint that is not the model's, or a full disk.
    """
    refuse_bad_name(options.name, options.version)
    spec, base, datasets = source.spec, source.base, source.datasets
    notes = (
        *(note for dataset in datasets for note in dataset.notes),
        *unserved([dataset.task for dataset in datasets]),
    )
    for note in notes:
        hearers.say(note)
    training = replace(options.training, max_tokens=spec.max_tokens)
    options = replace(options, training=training)
    torch.set_num_threads(training.threads)
    finetuning = FinetuneOptions(options.tasks, options.out_dir, options.name, base, training=training)
    with staging(options.out_dir) as stage:
        tokenizer_file = write_tokenizer(base, stage.new)
        tokenizer = load_tokenizer(tokenizer_file, spec.max_tokens)
        tasks = [dataset.task for dataset in datasets]
        network = load_base(base, tasks, training.dropout, tokenizer_file).eval()
        if len(adopt_heads(network, base)) < len(datasets):
            raise UsageError(f"{base}: its heads are not those of model.yaml")
        model = TrainedModel(network, datasets, tokenizer)
        teacher = copy.deepcopy(network) if options.teacher and training.epochs else None
        unpruned = stage.cache / "unpruned.onnx"
        _export(network, unpruned, hearers)
        size_before, layers_before = model.size(unpruned), model.layers()
        stages, tasks_before = [model.stage(UNPRUNED)], model.scores()
        _tell(stages[-1], hearers)
        found = take_out(model, options, base, stage.cache, hearers)
        stages.append(model.stage(PRUNED))
        _tell(stages[-1], hearers)
        resume = ResumeFile(stage.cache / RESUME, told(finetuning, base, pruning=_what(options)))
        if training.epochs:
            model = replace(model, network=_recovered(model, teacher, finetuning, hearers, resume))
            stages.append(model.stage(RECOVERED))
        graph = stage.new / variant_path(BASELINE)
        _export(model.network, graph, hearers)
        write_checkpoint(model.network, tokenizer_file, stage.new / CHECKPOINT)
        speed = _speed(model, unpruned, graph, training.seed, hearers)
        size_after = model.size(graph)
        report = PruneReport(
            model=options.name,
            version=options.version,
            pruned_from=f"{spec.name} {spec.version}",
            importance=options.importance,
            before=size_before,
            after=size_after,
            layers_before=layers_before,
            layers=model.layers(),
            stages=tuple(stages),
            unpruned_tasks=tasks_before,
            tasks=model.scores(),
            speed=speed,
            verdict=verdict(speed, size_before, size_after),
            sensitivity=found,
            notes=notes,
        )
        (stage.new / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        ModelDirectory(stage.new, _spec(source, report, finetuning.tasks, stage.new)).save()
        if stale := stage.publish():
            hearers.say(stale_line(stale, stage.out))
        resume.path.unlink(missing_ok=True)
        unpruned.unlink()
    return report


def _recovered(
    model: TrainedModel,
    teacher: MultiTaskEncoder | None,
    options: FinetuneOptions,
    hearers: Hearers,
    resume: ResumeFile,
) -> MultiTaskEncoder:
    """Trained on the labels as `finetune` does, and, where there is a teacher, as `distil` does; what is zero
    stays so."""
    hearers.say(f"recovering, {options.training.epochs} epochs")
    if zero_share(model.network):
        hold_zeros(model.network)
    data = TrainingData([learning(dataset, options) for dataset in model.datasets], model.tokenizer)
    processes = alone(options.training.device)
    objective: Objective = LabelLoss(data.tasks, options.training.label_smoothing)
    if teacher is not None:
        teacher.to(processes.device)
        layers = range(teacher.encoder.config.num_hidden_layers)
        objective = DistilLoss(teacher, model.network, layers, DistilWeights(), objective)
    hooks = Hooks(judge(model.datasets, model.tokenizer, hearers), hearers.advance)
    return train(model.network, data, options.training, hooks, resume, processes, objective)


def _export(network: MultiTaskEncoder, file: Path, hearers: Hearers) -> None:
    hearers.say("exporting")
    with quiet():
        export(network, file)


def _speed(
    model: TrainedModel, unpruned: Path, pruned: Path, seed: int, hearers: Hearers
) -> tuple[Speed, ...]:
    hearers.say("timing it against the unpruned graph, in turn")
    outputs = tuple(
        next((one.task.output for one in model.datasets if one.task.kind == kind), None)
        for kind in ("classification", "ner")
    )
    texts = [example.text for example in model.datasets[0].splits[DEV]]
    before, after = (Graph(file, (outputs[0], outputs[1])) for file in (unpruned, pruned))
    return measured_speed(before, after, encode(model.tokenizer, texts), seed)


def _tell(stage: Stage, hearers: Hearers) -> None:
    scores = ", ".join(f"{metric} {value:.4f}" for metric, value in stage.dev.items())
    hearers.say(f"{stage.stage}, on dev: {scores}")


def _what(options: PruneOptions) -> Mapping[str, object]:
    names = ("heads", "width", "rank", "energy", "zeros", "importance", "teacher")
    return {name: getattr(options, name) for name in names}


def _spec(source: PruneSource, report: PruneReport, files: Sequence[TaskFiles], folder: Path) -> ModelSpec:
    spec, tasks = source.spec, tuple(dataset.task for dataset in source.datasets)
    metrics = {one.metric: round(one.score, 4) for one in report.tasks if one.split != DEV}
    fp32 = variant_in(folder, BASELINE).model_copy(update={"metrics": metrics})
    return ModelSpec(
        name=report.model,
        version=report.version,
        description=spec.description,
        licence=spec.licence,
        provenance=provenance(
            base=report.pruned_from,
            weights=folder / CHECKPOINT / WEIGHTS,
            data=digests(tuple(files), {}, tasks),
            command=None,
            opset=OPSET,
            now=datetime.now(UTC),
        ),
        max_tokens=spec.max_tokens,
        tokenizer=TokenizerFile(sha256=sha256_of(folder / TOKENIZER)),
        tasks=tasks,
        default_variant=BASELINE,
        variants={BASELINE: fp32},
    )
