"""Packages a float32 graph as a model directory: quantize, score on dev, choose, score on test, publish.

Owns the order of these steps. Leaves each step to its module, training and export to `build`. Called by
`build` and the `minwatt` command. Needs onnx (the `train` extra), and torch only to train against a drop.

    DIR/model.yaml, int8/model.onnx   what is shipped, and its scores on test
    DIR/NAME/model.onnx               a scheme that is kept beside it
    DIR/quantization.json             every scheme's scores on dev, and why it was chosen or not
    DIR/.cache/schemes/               the schemes' graphs
    DIR/.cache/new/                   where no scheme passes on dev, what would have been DIR
"""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from pydantic import TypeAdapter, ValidationError

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, Name, Variant, sha256_of
from modelkit.compress.calibration import Batches
from modelkit.compress.candidates import Candidate, QuantizationReport
from modelkit.compress.catalogue import CATALOGUE, INT8, QDQ, schemes_named
from modelkit.compress.choice import NONE_PASSES, company_fault
from modelkit.compress.comparison import Comparison, Given, Train, compare
from modelkit.compress.tensorrt import faults
from modelkit.data.examples import EvaluationSet, Source, Tasks, load_evaluation_set, source_of
from modelkit.inference import Ids, load_tokenizer, pad
from modelkit.recipe import PackageOptions, Retraining
from modelkit.release.operators import TENSORRT, without_kernel
from modelkit.scoring.evaluate import BASELINE, SPLITS, EvaluationReport, Say, open_graphs, report_of
from modelkit.staging import Staging, staging
from modelkit.training.base import CHECKPOINT

SCORES = "quantization.json"


@dataclass(frozen=True)
class Shipped:
    """The graph that became int8 (None: none passed), those kept by name, and the test scores of all of them
    and fp32's."""

    scheme: str | None
    kept: tuple[str, ...]
    test: EvaluationReport


@dataclass(frozen=True)
class PackageResult:
    """Scores of every scheme on dev. `shipped` is None where nothing was written: the directory is as it was.

    `lacking` says in a line each what was asked for and is not there.
    """

    schemes: QuantizationReport
    shipped: Shipped | None
    lacking: tuple[str, ...] = ()


def quantize(model_dir: Path, options: PackageOptions, say: Say) -> PackageResult:
    """Package a model directory anew, from the fp32 graph that is in it.

    Raises UsageError (DataError among them) on a bad directory, bad data or a full disk.
    """
    directory = ModelDirectory.open(model_dir)
    if BASELINE not in directory.present_variants():
        raise UsageError(
            f"{model_dir}: no {BASELINE} graph on disk; `minwatt model build` and `finetune` write one"
        )
    with staging(model_dir) as stage:
        return package(directory, stage, options, say)


def package(draft: ModelDirectory, stage: Staging, options: PackageOptions, say: Say) -> PackageResult:
    """Quantize `draft`'s fp32 graph and publish `stage` with the scheme that is chosen on dev and those that
    are kept.

    `draft` lies in `stage.out`, or, as long as it is unpublished itself, in `stage.new`.
    """
    names = schemes_named(options.schemes, options.keep)
    spec, tasks = draft.spec, Tasks.of(draft.spec)
    sources = {split: source_of(options.data, split, options.sets) for split in SPLITS}
    tokenizer = load_tokenizer(draft.tokenizer_file(), spec.max_tokens)
    examples = {split: load_evaluation_set(tasks, tokenizer, sources[split]) for split in SPLITS}
    batches = _calibration(examples["train"], options)
    given = Given(
        fp32=draft.variant_file(BASELINE),
        batches=batches,
        tasks=tasks,
        dev=examples["dev"],
        score=lambda graphs: report_of(spec, sources["dev"], graphs, examples["dev"], say),
        train=_training(draft, sources["train"], batches, options, say),
    )
    with quiet():
        found = compare(given, names, options, stage.cache / "schemes", say)
    (stage.new / SCORES).write_text(found.report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    variants = {name: found.of_scheme(name) for name in options.keep}
    refused = {name: fault for name, one in variants.items() if (fault := _unfit(found, one))}
    variants = {name: one for name, one in variants.items() if name not in refused}
    if found.chosen is not None:
        say(f"shipping {found.chosen}")
        variants = {INT8: found.candidates[found.chosen], **variants}
    shipped = None
    if variants:
        files = {BASELINE: given.fp32}
        for name, candidate in variants.items():
            files[name] = stage.new / variant_path(name)
            files[name].parent.mkdir()
            shutil.copyfile(candidate.file, files[name])
        test = report_of(spec, sources["test"], open_graphs(files, tasks), examples["test"], say)
        made = {name: _variant(stage.new, name, candidate) for name, candidate in variants.items()}
        ModelDirectory(stage.new, _with_variants(spec, made, test)).save()
        stage.publish()
        shipped = Shipped(found.chosen, tuple(name for name in variants if name != INT8), test)
    return PackageResult(found.report, shipped, _lacking(found, refused))


def variant_path(name: str) -> str:
    """Where a variant's graph lies in a model directory."""
    return f"{name}/model.onnx"


def variant_in(folder: Path, name: str) -> Variant:
    """What model.yaml says of a variant's graph in `folder`."""
    file = folder / variant_path(name)
    return Variant(file=variant_path(name), sha256=sha256_of(file), size_bytes=file.stat().st_size)


def _variant(folder: Path, name: str, candidate: Candidate) -> Variant:
    """The same, with the scheme it is by and what of it is float32."""
    return variant_in(folder, name).model_copy(
        update={"scheme": candidate.name, "float32_parts": candidate.left or None}
    )


def _with_variants(spec: ModelSpec, made: Mapping[str, Variant], test: EvaluationReport) -> ModelSpec:
    """`spec` with those variants first, int8 as its default if it is one of them, and the test scores."""
    tasks = Tasks.of(spec)
    variants = {**made, **{name: v for name, v in spec.variants.items() if name not in made}}
    for score in test.variants:
        metrics = {}
        if tasks.intent is not None and score.accuracy is not None:
            metrics[f"{tasks.intent.name}.accuracy"] = round(score.accuracy, 4)
        if tasks.entities is not None and score.entity_f1 is not None:
            metrics[f"{tasks.entities.name}.f1"] = round(score.entity_f1, 4)
        variants[score.variant] = variants[score.variant].model_copy(update={"metrics": metrics})
    default = INT8 if INT8 in made else spec.default_variant
    return spec.model_copy(update={"default_variant": default, "variants": variants})


def _unfit(found: Comparison, candidate: Candidate) -> str | None:
    """Why what was to be kept can't be: its answers depend on the batch, or TensorRT would not take it."""
    if fault := company_fault(found.scores[candidate.name]):
        return fault
    if candidate.scheme != QDQ:
        return None
    model = onnx.load(candidate.file)
    wrong = (*faults(model), *without_kernel(model, TENSORRT))
    return f"not for TensorRT: {wrong[0]}" if wrong else None


def _lacking(found: Comparison, refused: Mapping[str, str]) -> tuple[str, ...]:
    """In a line each, what was asked for and was not written."""
    wanted = any(CATALOGUE[one.scheme].for_int8 for one in found.candidates.values())
    none = (NONE_PASSES,) if wanted and found.chosen is None else ()
    return (*none, *(f"keep = {name!r}: not written: {fault}" for name, fault in refused.items()))


def _calibration(examples: EvaluationSet, options: PackageOptions) -> list[tuple[Ids, Ids]]:
    """Padded batches of training texts of both sets, drawn at random: dev and test stay unseen."""
    generator = random.Random(options.calibration_seed)
    chosen: list[EncodedText] = []
    for pool in (examples.encoded_texts, examples.encoded_sentences):
        chosen += generator.sample(pool, min(options.calibration_texts, len(pool)))
    chosen.sort(key=len)
    return [pad(chosen[first : first + 16]) for first in range(0, len(chosen), 16)]


def _training(
    draft: ModelDirectory, source: Source, batches: Batches, options: PackageOptions, say: Say
) -> Train | None:
    """Training with a scheme's rounding, if it was asked for. Raises UsageError without a checkpoint."""
    if not options.qat_epochs:
        return None
    checkpoint = draft.path / CHECKPOINT
    if not checkpoint.is_dir():
        raise UsageError(f"qat-epochs = {options.qat_epochs}: no {checkpoint}; `finetune` writes one")
    from modelkit.training.quantization_aware import retrain

    def train(scheme: str, file: Path) -> None:
        how = Retraining(scheme, options.qat_epochs, options.threads)
        retrain(draft, checkpoint, source, batches, how, file, say)

    return train


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, the optimizer and the stock quantizers don't log every node they touch or pass over."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


def refuse_bad_name(name: str, version: str) -> None:
    """Raises UsageError where no `model.yaml` can have them."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        allowed = "a-z and 0-9, with . _ - between them"
        raise UsageError(f"name = {name!r}: allowed: {allowed}") from error
    if not version:
        raise UsageError("version = '': allowed: any text that is not empty")
