"""The comparison with peers, as far as it runs without them: the model that they serve, and the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.peers.catalogue import PEERS
from bench.peers.environments import run_or_explain
from bench.peers.report import as_json, as_markdown, ratios
from bench.peers.run import LOADS, OWN, Compared
from bench.peers.support_text import SupportText
from bench.serving.figures import load_name
from bench.serving.processes import BenchError
from bench.serving.rounds import Round
from minwatt.v1.decode import top_labels
from minwatt.v1.model_dir import ModelDirectory
from service.collate import collate
from service.runtime.onnx import OnnxEncoder, RuntimeOptions
from service.tokenize import TextTokenizer

TEXTS = ["where is my card", "hello", "cancel the exchange rate of it, where the balance is at my card"] * 7


def test_peers_answer_as_the_model_does(tiny_model: Path) -> None:
    directory = ModelDirectory.open(tiny_model)
    spec = directory.spec
    task = next(task for task in spec.tasks if task.kind == "classification")
    heads = {one.output: len(one.labels) for one in spec.tasks}
    graph = directory.variant_file(spec.default_variant)
    encoder = OnnxEncoder(graph, heads, RuntimeOptions("cpu", 1))
    encoded = TextTokenizer(directory.tokenizer_file(), spec.max_tokens).encode(TEXTS, truncate=False)
    assert isinstance(encoded, list)
    expected = []
    for one in encoded:  # alone, so without padding
        logits = encoder.run(*collate([one], spec.pad_token_id))[task.output][0]
        best = top_labels(logits, task.labels, top_k=1, min_score=0.0)[0]
        expected.append((best.name, pytest.approx(best.score, rel=1e-4)))
    assert SupportText(tiny_model).classify(TEXTS) == expected


def a_round(speed: float) -> Round:
    own = {load_name(OWN, *load): {"texts_per_s": 110.0 * speed} for load in LOADS}
    other = {load_name("mosec", *load): {"texts_per_s": 100.0 * speed} for load in LOADS}
    return {**own, **other}


def test_a_peer_is_compared_in_the_same_rounds_and_one_that_is_missing_is_named() -> None:
    compared = Compared(
        seconds=1.0,
        rounds=[a_round(speed) for speed in (1.0, 0.3, 3.0)],
        versions={"mosec": "1.0"},
        rss_mib={OWN: 200.0, "mosec": 300.0},
        missing={"MLServer": "can't be installed: no wheel"},
    )
    of_mosec = ratios(compared)["mosec"]
    assert set(of_mosec) == {f"{shape}_c{concurrency}" for shape, concurrency in LOADS}
    for found in of_mosec.values():
        assert (found.median, found.least, found.most) == (pytest.approx(1.1),) * 3
    data = json.loads(json.dumps(as_json(compared, "a command", {}, {})))
    assert data["ratios"]["mosec"]["unary_c8"] == pytest.approx(1.1)
    assert data["missing"] == compared.missing
    assert "MLServer: can't be installed: no wheel" in as_markdown(compared, "a command", {}, {})


def test_what_can_not_be_installed_says_why() -> None:
    code = "import sys; print('ERROR: no such wheel', file=sys.stderr); sys.exit(1)"
    with pytest.raises(BenchError, match="can't be installed: ERROR: no such wheel"):
        run_or_explain(["python3", "-c", code])


def test_each_peer_has_a_name_and_a_package_of_its_own() -> None:
    assert len({peer.name for peer in PEERS}) == len({peer.package for peer in PEERS}) == len(PEERS)
    for peer in PEERS:
        assert peer.package in peer.requirements
