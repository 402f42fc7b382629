"""The whole build on a tiny encoder and a few examples, killed at every step but the first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from modelkit.recipe import BuildOptions, StudentShape, TrainingOptions
from tests.modelkit.tiny_base import write_base
from tests.tiny_model import WORDS

if TYPE_CHECKING:
    from modelkit.build import Built

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


def options_of(path: Path) -> BuildOptions:
    training = TrainingOptions(
        epochs=20, batch_size=8, encoder_rate=1e-3, embedding_rate=1e-3, max_tokens=32, threads=1
    )
    return BuildOptions(
        data_dir=write_data(path / "data"),
        out_dir=path / "model",
        student_dir=path / "model-small",
        base=write_base(path / "base"),
        max_tokens=32,
        training=training,
        student=StudentShape(layers=1, feed_forward=48),
        student_training=training,
    )


def test_a_build_that_is_killed_goes_on_and_ends_with_two_models_to_serve(tmp_path: Path) -> None:
    from modelkit.build import build
    from modelkit.training.hearers import Hearers

    options = options_of(tmp_path)
    said: list[str] = []
    cards: list[Path] = []
    kill_at = ["model-small: distil", "epoch 2 of 20", "model-small: quantize", "model-small: card"]

    def say(line: str) -> None:
        said.append(line)
        if kill_at and line.startswith(kill_at[0]):
            del kill_at[0]
            raise KeyboardInterrupt

    def run() -> Sequence[Built]:
        said.clear()
        return build(options, Hearers(say, lambda done, total: None), cards.append)

    while kill_at:
        with pytest.raises(KeyboardInterrupt):
            run()
    default, student = run()
    assert (default.result, student.result) == (None, None)
    expected = [f"{folder}: {step}: done before" for folder, step in (
        ("model", "fine-tune"), ("model-small", "distil"), ("model", "quantize"), ("model-small", "quantize"),
        ("model", "card"),
    )]  # fmt: skip
    assert said[-7:-2] == expected
    assert cards == [options.out_dir, options.student_dir]
    sizes = []
    for path, name in ((options.out_dir, "support-text"), (options.student_dir, "support-text-small")):
        directory = ModelDirectory.open(path)
        assert (directory.spec.name, directory.present_variants()) == (name, ("int8", "fp32"))
        assert directory.spec.variants["int8"].metrics == {"intent.accuracy": 1.0, "entities.f1": 1.0}
        sizes.append(directory.variant_file("int8").stat().st_size)
        schemes = json.loads((path / "quantization.json").read_text())["variants"]
        assert len(schemes) == 5
        assert Tokenizer.from_file(str(path / "tokenizer.json")).padding is None
    assert sizes[1] < sizes[0]


def test_mistakes_are_named_before_the_training(tmp_path: Path) -> None:
    from modelkit.build import build
    from modelkit.training.hearers import Hearers

    def told(options: BuildOptions) -> str:
        hearers = Hearers(lambda line: None, lambda done, total: pytest.fail("it trained"))
        with pytest.raises(UsageError) as caught:
            build(options, hearers, lambda path: pytest.fail("it measured"))
        return str(caught.value)

    good = options_of(tmp_path)
    (tmp_path / "file").write_text("")
    assert told(replace(good, name="Bad Name")).startswith("name = 'Bad Name': allowed: a-z and 0-9")
    assert told(replace(good, student_name="Bad Name")).startswith("name = 'Bad Name'")
    assert told(replace(good, version="")).startswith("version = ''")
    assert told(replace(good, student_dir=good.out_dir)).startswith("student-out = ")
    assert "can't be written (Not a directory)" in told(replace(good, out_dir=tmp_path / "file" / "model"))
    (tmp_path / "base" / "model.safetensors").write_text("junk")
    assert "not a BERT that can be read" in told(good)
    (tmp_path / "base" / "tokenizer.json").write_text("junk")
    assert "not a tokenizers file" in told(good)
    (tmp_path / "data" / "banking77" / "test.jsonl").unlink()
    assert told(good).endswith("test.jsonl: No such file or directory")
