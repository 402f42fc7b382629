"""Exports a checkpoint as a model directory that serves: graph, parity with torch, operators, provenance.

Owns the order of the steps. Leaves each to its module. Called by the `minwatt` command. Needs the `train`
extra.

    OUT/model.yaml, tokenizer.json, fp32/model.onnx   the model directory
    OUT/export.json                                   what the checks found
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import onnx

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import MODEL_FILE, ModelDirectory, ModelSpec, Task, TokenizerFile, sha256_of
from modelkit.compress.graph import save
from modelkit.compress.plain import plain
from modelkit.data.examples import source_of
from modelkit.export import export
from modelkit.inference import Graph, encode, load_tokenizer
from modelkit.package import CHECKPOINT, quiet, refuse_bad_name, variant_in, variant_path
from modelkit.recipe import ExportOptions
from modelkit.release.operators import CUDA, TENSORRT, without_kernel
from modelkit.release.parity import batches_of, parity
from modelkit.release.provenance import digests, provenance
from modelkit.release.report import ExportReport, ProviderCheck
from modelkit.release.sentences import SENTENCES
from modelkit.scoring.evaluate import BASELINE, Say
from modelkit.staging import staging
from modelkit.training.base import CONFIG, HEADS, TASKS, TOKENIZER, WEIGHTS, known_tasks, write_tokenizer
from modelkit.training.network import MultiTaskEncoder
from modelkit.training.quantization_aware import load_trained

REPORT = "export.json"
DEFAULT_MAX_TOKENS = 128
_TEXTS = 256  # of each task's dev split


def export_model(options: ExportOptions, say: Say) -> ExportReport:
    """Write `options.out_dir` and say what the checks found; nothing is written where parity fails.

    Raises UsageError on a checkpoint that can't be read, a bad name, bad data or a full disk.
    """
    folder, before = _opened(options.checkpoint)
    name = options.name or (before.name if before else options.out_dir.resolve().name)
    version = options.version or (before.version if before else "1")
    refuse_bad_name(name, version)
    tasks = _tasks(folder)
    with staging(options.out_dir) as stage:
        say("loading the checkpoint")
        network = load_trained(folder, tasks)
        max_tokens = _max_tokens(options, before, network)
        write_tokenizer(folder, stage.new)
        file = stage.new / variant_path(BASELINE)
        say("exporting")
        with quiet():
            export(network, file)
        if options.standard:
            save(plain(onnx.load(file)), file)
        model = onnx.load(file)
        say("comparing with torch")
        texts, described = _texts(options, tasks)
        encoded = encode(load_tokenizer(stage.new / TOKENIZER, max_tokens), texts)
        found = parity(network, Graph(file, (None, None)), list(batches_of(encoded)))
        report = ExportReport(
            model=name,
            version=version,
            texts=described,
            parity=asdict(found),
            tolerance=options.tolerance,
            passed=found.logit <= options.tolerance and not found.changed_texts,
            heads={task.name: task.kind for task in tasks},
            inputs={value.name: _shape(value) for value in model.graph.input},
            outputs={value.name: _shape(value) for value in model.graph.output},
            opset=next(one.version for one in model.opset_import if not one.domain),
            size_bytes=file.stat().st_size,
            sha256=sha256_of(file),
            providers=_providers(model),
        )
        if not report.passed:
            return report
        (stage.new / REPORT).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        given = before.provenance if before else None
        data = dict(given.data) if given else {}
        if options.data is not None:
            data |= digests(options.data, options.sets, tasks)
        spec = ModelSpec(
            name=name,
            version=version,
            description=before.description if before else "",
            licence=options.licence or (before.licence if before else None),
            provenance=provenance(
                base=options.base or (given.base if given else None),
                weights=folder / WEIGHTS,
                data=data,
                command=options.command,
                opset=report.opset,
                now=datetime.now(UTC),
            ),
            max_tokens=max_tokens,
            tokenizer=TokenizerFile(sha256=sha256_of(stage.new / TOKENIZER)),
            tasks=tasks,
            default_variant=BASELINE,
            variants={BASELINE: variant_in(stage.new, BASELINE)},
        )
        ModelDirectory(stage.new, spec).save()
        stage.publish()
    return report


def _opened(path: Path) -> tuple[Path, ModelSpec | None]:
    """The checkpoint's folder, and what the model directory around it says, where there is one."""
    folder = path / CHECKPOINT if (path / CHECKPOINT).is_dir() else path
    missing = [name for name in (CONFIG, WEIGHTS, TOKENIZER) if not (folder / name).is_file()]
    if missing:
        allowed = (
            f"a directory with {CONFIG}, {WEIGHTS}, {TOKENIZER}, {TASKS} and {HEADS}, as `finetune` writes"
        )
        raise UsageError(f"checkpoint = {str(path)!r}: no {missing[0]}; allowed: {allowed}")
    around = folder.parent
    spec = ModelDirectory.open(around).spec if (around / MODEL_FILE).is_file() else None
    return folder, spec


def _tasks(folder: Path) -> tuple[Task, ...]:
    """Those that the checkpoint has heads for."""
    if tasks := known_tasks(folder):
        return tasks
    raise UsageError(
        f"{folder}: no {TASKS}: an encoder without heads; `minwatt model finetune --from` trains them"
    )


def _max_tokens(options: ExportOptions, before: ModelSpec | None, network: MultiTaskEncoder) -> int:
    most = network.encoder.config.max_position_embeddings
    wanted = options.max_tokens or (before.max_tokens if before else min(DEFAULT_MAX_TOKENS, most))
    if not 8 <= wanted <= most:
        raise UsageError(f"max-tokens = {wanted}: allowed: 8 to {most}, the encoder's positions")
    return wanted


def _texts(options: ExportOptions, tasks: Sequence[Task]) -> tuple[list[str], str]:
    """What both are asked, and in words what that is."""
    if options.data is None:
        return list(SENTENCES), f"{len(SENTENCES)} built-in sentences"
    source = source_of(options.data, "dev", options.sets)
    texts: list[str] = []
    for task in tasks:
        examples = source.texts(task) if task.kind == "classification" else source.annotated(task)
        texts += [example.text for example in examples[:_TEXTS]]
    return texts, f"{len(texts)} texts of the dev split"


def _shape(value: onnx.ValueInfoProto) -> tuple[str, ...]:
    return tuple(one.dim_param or str(one.dim_value) for one in value.type.tensor_type.shape.dim)


def _providers(model: onnx.ModelProto) -> tuple[ProviderCheck, ...]:
    """The CPU by the session that has just answered, the others by their lists."""
    cpu = ProviderCheck(provider="CPU", checked_by="a session on this machine", without_kernel={})
    return (
        cpu,
        *(
            ProviderCheck(
                provider=listed.provider,
                checked_by=listed.source,
                without_kernel=without_kernel(model, listed),
            )
            for listed in (CUDA, TENSORRT)
        ),
    )
