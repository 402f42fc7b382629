"""On a card: the CPU's answers, nothing left on the host, clear refusals, and joules that agree."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from energy import Reading, open_meter
from minwatt.v1.decode import softmax
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from service.collate import collate
from service.runtime.buckets import Buckets
from service.runtime.onnx import BoundEncoder, OnnxEncoder
from service.runtime.options import GpuOptions, RuntimeOptions
from service.tokenize import TextTokenizer, TooLong
from tests.gpu.conftest import Record

Floats = NDArray[np.float32]

PROBABILITY_TOLERANCE = 0.02  # of the CPU's: a card sums in another order, and in TF32 where it may
COMPANY_TOLERANCE = 0.005
TEXTS = [
    "Where is my card?",
    "I was charged twice for the same payment at a shop in Lyon, can you give one of them back to me?",
    "cancel",
    "Angela Merkel met the board of Siemens in Munich on Tuesday.",
    "My top-up did not arrive and the app says that it is pending since yesterday evening.",
    " ".join(["The transfer to Deutsche Bank in Frankfurt has not been received."] * 6),
]
JOULES_SPAN_S = 20.0
JOULES_TOLERANCE = 0.1


def gpu_options(provider: str, cache: Path, **gpu: object) -> RuntimeOptions:
    return RuntimeOptions(provider, 1, GpuOptions(engine_cache=cache, **gpu))  # type: ignore[arg-type]


class Subject:
    """A model's variant with the way its texts are read."""

    def __init__(self, directory: ModelDirectory, variant: str) -> None:
        self.spec = directory.spec
        self.graph = directory.variant_file(variant)
        self.heads = {task.output: len(task.labels) for task in self.spec.tasks}
        self._tokenizer = TextTokenizer(directory.tokenizer_file(), self.spec.max_tokens)

    def on_cpu(self) -> OnnxEncoder:
        return OnnxEncoder(self.graph, self.heads, RuntimeOptions("cpu", 1))

    def on_card(self, options: RuntimeOptions) -> BoundEncoder:
        return BoundEncoder(self.graph, self.heads, options, Buckets(self.spec.max_tokens))

    def probabilities(
        self, encoder: OnnxEncoder | BoundEncoder, texts: Sequence[str]
    ) -> list[dict[str, Floats]]:
        """Of each text by output, its own tokens alone."""
        encoded = self._tokenizer.encode(texts, truncate=True)
        assert not isinstance(encoded, TooLong)
        shape = encoder.shape_for(len(texts), max(map(len, encoded)))
        logits = encoder.run(*collate(encoded, self.spec.pad_token_id, shape))
        return [
            {
                name: softmax(values[row] if values.ndim == 2 else values[row, : len(text)])
                for name, values in logits.items()
            }
            for row, text in enumerate(encoded)
        ]


@pytest.fixture(params=["cuda", "tensorrt"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["eager", "graphs"])
def cuda_graphs(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def on_disk(directory: ModelDirectory) -> list[str]:
    return [
        name for name, variant in directory.spec.variants.items() if (directory.path / variant.file).exists()
    ]


def apart(left: Sequence[dict[str, Floats]], right: Sequence[dict[str, Floats]]) -> float:
    """The largest difference of a probability."""
    return max(
        float(np.abs(one[name] - other[name]).max())
        for one, other in zip(left, right, strict=True)
        for name in one
    )


def test_answers_are_the_cpus_whatever_the_company(
    directory: ModelDirectory, provider: str, cuda_graphs: bool, tmp_path: Path, record: Record
) -> None:
    for variant in on_disk(directory):
        subject = Subject(directory, variant)
        name = f"answers {variant} {provider} {'graphs' if cuda_graphs else 'eager'}"
        try:
            card = subject.on_card(gpu_options(provider, tmp_path, cuda_graphs=cuda_graphs))
            together = subject.probabilities(card, TEXTS)
        except (UsageError, RuntimeError) as error:
            record(name, {"refused": str(error)})
            if provider == "cuda" and not cuda_graphs:
                raise
            continue  # TensorRT may not be installed, and not every graph can be captured: both say so
        expected = subject.probabilities(subject.on_cpu(), TEXTS)
        again = subject.probabilities(card, TEXTS)  # the second time on buffers that were used
        alone = [subject.probabilities(card, [text])[0] for text in TEXTS]
        record(name, {"to the CPU": apart(together, expected), "to itself alone": apart(together, alone)})
        assert apart(together, expected) <= PROBABILITY_TOLERANCE
        assert apart(together, again) == 0.0
        assert apart(together, alone) <= COMPANY_TOLERANCE


def test_no_weights_stay_on_the_host(directory: ModelDirectory, tiny_model: Path, record: Record) -> None:
    variants = directory.spec.variants
    largest = max(on_disk(directory), key=lambda name: variants[name].size_bytes)
    command = [sys.executable, "-m", "tests.gpu.host_memory", str(directory.path), largest, str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout)
    weights_bytes = variants[largest].size_bytes
    record("host memory", grown | {"weights_bytes": weights_bytes, "variant": largest})
    assert grown["host_bytes"] < weights_bytes / 2
    assert grown["growth_in_use_bytes"] < weights_bytes / 10


def test_a_card_that_is_not_there_is_named(directory: ModelDirectory, tmp_path: Path) -> None:
    subject = Subject(directory, on_disk(directory)[0])
    with pytest.raises(UsageError, match=r"gpu = 99: there is no such GPU"):
        subject.on_card(gpu_options("cuda", tmp_path, device_id=99))


def test_too_little_memory_is_named(directory: ModelDirectory, tmp_path: Path, record: Record) -> None:
    subject = Subject(directory, on_disk(directory)[0])

    def use() -> None:
        subject.probabilities(
            subject.on_card(gpu_options("cuda", tmp_path, memory_limit_bytes=1 << 20)), TEXTS
        )

    with pytest.raises((UsageError, RuntimeError), match="is not enough") as raised:
        use()
    record("out of memory", str(raised.value))


def test_the_energy_counter_agrees_with_integrated_watts(
    directory: ModelDirectory, tmp_path: Path, record: Record
) -> None:
    subject = Subject(directory, on_disk(directory)[0])
    card = subject.on_card(gpu_options("cuda", tmp_path))
    meter = open_meter("nvml")
    try:
        readings: list[Reading] = []
        ends_s = time.monotonic() + JOULES_SPAN_S
        while time.monotonic() < ends_s:
            subject.probabilities(card, TEXTS * 4)
            if not readings or time.monotonic() - readings[-1].at_s >= 0.5:
                reading = meter.read()
                assert isinstance(reading, Reading)
                readings.append(reading)
    finally:
        meter.close()
    counted_j = readings[-1].joules_total - readings[0].joules_total
    # Each reading's watts are the mean since the one before.
    integrated_j = sum(now.watts * (now.at_s - before.at_s) for before, now in pairwise(readings))
    span_s = readings[-1].at_s - readings[0].at_s
    record("joules", {"counted_j": counted_j, "integrated_j": integrated_j, "span_s": span_s})
    assert integrated_j == pytest.approx(counted_j, rel=JOULES_TOLERANCE)
