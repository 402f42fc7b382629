"""The whole build on a tiny encoder and a few examples: what it writes can be opened, scored and served."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from tests.modelkit.tiny_base import write_base
from tests.tiny_model import WORDS

pytest.importorskip("torch", reason="building needs the train extra")
pytest.importorskip("transformers", reason="building needs the train extra")


def write_data(path: Path) -> Path:
    """Two intents told apart by a word; people by their names."""
    for folder in ("banking77", "uner_ewt"):
        (path / folder).mkdir(parents=True)
    (path / "banking77" / "labels.txt").write_text("card\nrate\n")
    (path / "uner_ewt" / "labels.txt").write_text("O\nB-PER\nI-PER\n")
    texts = "".join(
        json.dumps({"text": f"{word} {name} {kind}", "label": kind}) + "\n"
        for word in WORDS[:8]
        for name in ("hello", "my")
        for kind in ("card", "rate")
    )
    people = "".join(f"{word}\tO\nalice\tB-PER\nsmith\tI-PER\n\n{word}\tO\nis\tO\n\n" for word in WORDS[:16])
    for split in ("train", "dev", "test"):
        (path / "banking77" / f"{split}.jsonl").write_text(texts)
        (path / "uner_ewt" / f"{split}.conll").write_text(people)
    return path


def test_a_build_learns_quantizes_and_writes_a_model_directory(tmp_path: Path) -> None:
    from modelkit.build import Hearers, build
    from modelkit.recipe import BuildOptions, TrainingOptions

    said: list[str] = []
    steps: list[tuple[int, int]] = []
    out = tmp_path / "model"
    result = build(
        BuildOptions(
            data_dir=write_data(tmp_path / "data"),
            out_dir=out,
            base=write_base(tmp_path / "base"),
            max_tokens=32,
            training=TrainingOptions(
                epochs=30, batch_size=8, encoder_rate=1e-3, embedding_rate=1e-3, threads=1
            ),
        ),
        Hearers(said.append, lambda done, total: steps.append((done, total))),
    )
    directory = ModelDirectory.open(out)
    assert directory.present_variants() == ("int8", "fp32")
    assert directory.variant_file("int8").stat().st_size < directory.variant_file("fp32").stat().st_size
    assert result.shipped is not None
    for score in result.shipped.test.variants:
        assert (score.accuracy, score.entity_f1) == (1.0, 1.0)
    assert directory.spec.variants["int8"].metrics == {"intent.accuracy": 1.0, "entities.f1": 1.0}
    schemes = json.loads((out / "quantization.json").read_text())["variants"]
    assert {scheme["variant"] for scheme in schemes} == {
        "fp32",
        "per_token",
        "static_minmax",
        "weight_int8",
        "dynamic",
    }
    assert result.shipped.scheme != "dynamic"
    assert Tokenizer.from_file(str(out / "tokenizer.json")).padding is None
    assert steps == [(step, 120) for step in range(1, 121)]


def test_mistakes_are_named_before_the_training(tmp_path: Path) -> None:
    from modelkit.build import Hearers, build
    from modelkit.recipe import BuildOptions

    def told(options: BuildOptions) -> str:
        with pytest.raises(UsageError) as caught:
            build(options, Hearers(pytest.fail, lambda done, total: pytest.fail("it trained")))
        return str(caught.value)

    base = write_base(tmp_path / "base")
    good = BuildOptions(data_dir=write_data(tmp_path / "data"), out_dir=tmp_path / "model", base=base)
    (tmp_path / "file").write_text("")
    assert told(replace(good, name="Bad Name")).startswith("name = 'Bad Name': allowed: a-z and 0-9")
    assert told(replace(good, version="")).startswith("version = ''")
    assert "can't be written (Not a directory)" in told(replace(good, out_dir=tmp_path / "file" / "model"))
    (base / "model.safetensors").write_text("junk")
    assert "not a BERT that can be read" in told(good)
    (base / "tokenizer.json").write_text("junk")
    assert "not a tokenizers file" in told(good)
    (tmp_path / "data" / "banking77" / "test.jsonl").unlink()
    assert told(good).endswith("test.jsonl: No such file or directory")
