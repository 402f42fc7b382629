"""Exports a checkpoint as a model directory that serves: graph, parity with torch, operators, provenance.

Owns the order of the steps. Leaves what is read to `source`, each step to its module. Called by the `minwatt`
command. Needs the `train` extra.

    OUT/model.yaml, tokenizer.json, fp32/model.onnx   the model directory
    OUT/export.json                                   what the checks found
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import onnx

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, TokenizerFile, sha256_of
from modelkit.compress.graph import save
from modelkit.compress.plain import plain
from modelkit.export import export
from modelkit.inference import Graph, encode, load_tokenizer
from modelkit.package import quiet, refuse_bad_name, variant_in, variant_path
from modelkit.recipe import ExportOptions
from modelkit.release.operators import CUDA, TENSORRT, without_kernel
from modelkit.release.parity import batches_of, parity
from modelkit.release.provenance import provenance
from modelkit.release.report import ExportReport, ProviderCheck
from modelkit.release.source import ExportSource
from modelkit.scoring.evaluate import BASELINE, Say
from modelkit.staging import staging
from modelkit.training.base import TOKENIZER, WEIGHTS, write_tokenizer
from modelkit.training.network import MultiTaskEncoder
from modelkit.training.quantization_aware import load_trained

REPORT = "export.json"
DEFAULT_MAX_TOKENS = 128


def export_model(options: ExportOptions, source: ExportSource, say: Say) -> ExportReport:
    """Write `options.out_dir` and say what the checks found; nothing is written where parity fails.

    Raises UsageError on weights that can't be read, a bad name or a full disk.
    """
    folder, before, tasks = source.folder, source.before, source.tasks
    name = options.name or (before.name if before else options.out_dir.resolve().name)
    version = options.version or (before.version if before else "1")
    refuse_bad_name(name, version)
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
        encoded = encode(load_tokenizer(stage.new / TOKENIZER, max_tokens), source.texts)
        found = parity(network, Graph(file, (None, None)), list(batches_of(encoded)))
        report = ExportReport(
            model=name,
            version=version,
            texts=source.described,
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
            stage.discard()
            return report
        (stage.new / REPORT).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        given = before.provenance if before else None
        spec = ModelSpec(
            name=name,
            version=version,
            description=before.description if before else "",
            licence=options.licence or (before.licence if before else None),
            provenance=provenance(
                base=options.base or (given.base if given else None),
                weights=folder / WEIGHTS,
                data={**(given.data if given else {}), **source.data},
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
        stale = stage.publish()
    return report.model_copy(update={"stale": stale})


def _max_tokens(options: ExportOptions, before: ModelSpec | None, network: MultiTaskEncoder) -> int:
    most = network.encoder.config.max_position_embeddings
    wanted = options.max_tokens or (before.max_tokens if before else min(DEFAULT_MAX_TOKENS, most))
    if not 8 <= wanted <= most:
        raise UsageError(f"max-tokens = {wanted}: allowed: 8 to {most}, the encoder's positions")
    return wanted


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
