"""Packages a float32 graph as a model directory: quantize, score on dev, choose, score on test, publish.

Owns the order of these steps. Leaves each step to its module, training and export to `build`. Called by
`build` and the `minwatt` command. Needs onnx (the `train` extra), and no torch.

    DIR/model.yaml, int8/model.onnx   what is shipped, and its scores on test
    DIR/quantization.json             every scheme's scores on dev
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

from pydantic import TypeAdapter, ValidationError

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, Name, Variant, sha256_of
from modelkit.compress.choice import choose
from modelkit.compress.quantize import save
from modelkit.compress.schemes import COMPARED_ONLY, quantized_variants
from modelkit.data.examples import EvaluationSet, Tasks, load_evaluation_set, source_of
from modelkit.inference import Graph, Ids, load_tokenizer, pad
from modelkit.recipe import PackageOptions
from modelkit.scoring.evaluate import BASELINE, SPLITS, EvaluationReport, Say, open_graphs, report_of
from modelkit.staging import Staging, staging

QUANTIZED = "int8"
SCORES = "quantization.json"


@dataclass(frozen=True)
class Shipped:
    """The scheme that became int8, and the test scores of fp32 and int8."""

    scheme: str
    test: EvaluationReport


@dataclass(frozen=True)
class PackageResult:
    """Scores of every scheme on dev. `shipped` is None where none passed: the directory is as it was."""

    schemes: EvaluationReport
    shipped: Shipped | None


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
    """Quantize `draft`'s fp32 graph and, where a scheme passes on dev, publish `stage`.

    `draft` lies in `stage.out`, or, as long as it is unpublished itself, in `stage.new`.
    """
    tasks = Tasks.of(draft.spec)
    sources = {split: source_of(options.data, split, options.sets) for split in SPLITS}
    tokenizer = load_tokenizer(draft.tokenizer_file(), draft.spec.max_tokens)
    examples = {split: load_evaluation_set(tasks, tokenizer, sources[split]) for split in SPLITS}

    def scores(split: str, graphs: Mapping[str, Graph]) -> EvaluationReport:
        return report_of(draft.spec, sources[split], graphs, examples[split], say)

    say("quantizing")
    files = {BASELINE: draft.variant_file(BASELINE)}
    with quiet():
        calibration = _calibration(examples["train"], options)
        for name, model in quantized_variants(files[BASELINE], calibration).items():
            files[name] = stage.cache / "schemes" / f"{name}.onnx"
            save(model, files[name])
    graphs = open_graphs(files, tasks)
    schemes = scores("dev", graphs)
    (stage.new / SCORES).write_text(schemes.model_dump_json(indent=2) + "\n", encoding="utf-8")
    scheme = choose([score for score in schemes.variants if score.variant != COMPARED_ONLY])
    if scheme is None:
        return PackageResult(schemes, None)
    say(f"shipping {scheme}")
    target = stage.new / variant_path(QUANTIZED)
    target.parent.mkdir()
    shutil.copyfile(files[scheme], target)
    test = scores("test", {BASELINE: graphs[BASELINE], QUANTIZED: graphs[scheme]})
    ModelDirectory(stage.new, _with_int8(draft.spec, variant_in(stage.new, QUANTIZED), test)).save()
    stage.publish()
    return PackageResult(schemes, Shipped(scheme, test))


def variant_path(name: str) -> str:
    """Where a variant's graph lies in a model directory."""
    return f"{name}/model.onnx"


def variant_in(folder: Path, name: str) -> Variant:
    """What model.yaml says of a variant's graph in `folder`."""
    file = folder / variant_path(name)
    return Variant(file=variant_path(name), sha256=sha256_of(file), size_bytes=file.stat().st_size)


def _with_int8(spec: ModelSpec, int8: Variant, test: EvaluationReport) -> ModelSpec:
    """`spec` with int8 as its default, and the test scores."""
    tasks = Tasks.of(spec)
    variants = {QUANTIZED: int8, **{name: v for name, v in spec.variants.items() if name != QUANTIZED}}
    for score in test.variants:
        metrics = {}
        if tasks.intent is not None and score.accuracy is not None:
            metrics[f"{tasks.intent.name}.accuracy"] = round(score.accuracy, 4)
        if tasks.entities is not None and score.entity_f1 is not None:
            metrics[f"{tasks.entities.name}.f1"] = round(score.entity_f1, 4)
        variants[score.variant] = variants[score.variant].model_copy(update={"metrics": metrics})
    return spec.model_copy(update={"default_variant": QUANTIZED, "variants": variants})


def _calibration(examples: EvaluationSet, options: PackageOptions) -> list[tuple[Ids, Ids]]:
    """Padded batches of training texts of both sets, drawn at random: dev and test stay unseen."""
    generator = random.Random(options.calibration_seed)
    chosen: list[EncodedText] = []
    for pool in (examples.encoded_texts, examples.encoded_sentences):
        chosen += generator.sample(pool, min(options.calibration_texts, len(pool)))
    chosen.sort(key=len)
    return [pad(chosen[first : first + 16]) for first in range(0, len(chosen), 16)]


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
