"""A directory is written all at once, and a disk that can't be written is one line."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from modelkit.staging import Staging, staging


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_publishing_replaces_what_is_staged_and_keeps_the_rest(tmp_path: Path) -> None:
    fill(tmp_path, {"model.yaml": "old", "int8/model.onnx": "old", "fp32/model.onnx": "old"})
    with staging(tmp_path) as stage:
        fill(stage.new, {"model.yaml": "new", "int8/model.onnx": "new", "tokenizer.json": "new"})
        assert (tmp_path / "model.yaml").read_text() == "old"
        stage.publish()
    texts = {
        str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()
    }
    assert texts == {
        "model.yaml": "new", "int8/model.onnx": "new", "fp32/model.onnx": "old", "tokenizer.json": "new"
    }  # fmt: skip
    assert not stage.new.exists()


def test_model_yaml_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    rename = os.replace

    def noted(source: Path, target: Path) -> None:
        names.append(target.name)
        rename(source, target)

    monkeypatch.setattr(os, "replace", noted)
    with staging(tmp_path) as stage:
        fill(
            stage.new,
            {"int8/model.onnx": "", "model.yaml": "", "quantization.json": "", "tokenizer.json": ""},
        )
        stage.publish()
    assert names[-1] == "model.yaml"
    assert len(names) == 4


def test_what_an_earlier_attempt_left_is_not_published(tmp_path: Path) -> None:
    fill(Staging(tmp_path).new, {"tokenizer.json": "left"})
    with staging(tmp_path) as stage:
        stage.publish()
    assert not (tmp_path / "tokenizer.json").exists()


def test_a_disk_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model: can't be written \(No space left on device\)$"):  # noqa: SIM117
        with staging(tmp_path / "model"):
            raise OSError(errno.ENOSPC, "No space left on device")
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match=r"can't be written \(Not a directory\)$"),
        staging(tmp_path / "file"),
    ):
        pass


def test_what_fails_or_is_discarded_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with staging(tmp_path / "new") as stage:
            fill(stage.new, {"fp32/model.onnx": "half"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not (tmp_path / "new").exists()
    fill(tmp_path / "old", {"model.yaml": "old"})
    with staging(tmp_path / "old") as stage:
        stage.discard()
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["model.yaml"]


def test_graphs_that_are_named_no_more_are_moved_away_and_told(tmp_path: Path) -> None:
    from tests.tiny_model import write_tiny_model

    write_tiny_model(tmp_path)
    before = ModelDirectory.open(tmp_path)
    [kept, *_] = before.present_variants()
    shutil.copytree((tmp_path / before.spec.variants[kept].file).parent, tmp_path / "old")
    graph = Path(before.spec.variants[kept].file).name
    old = before.spec.variants[kept].model_copy(update={"file": f"old/{graph}"})
    variants = {**before.spec.variants, "old": old}
    ModelDirectory(tmp_path, before.spec.model_copy(update={"variants": variants})).save()
    with staging(tmp_path) as stage:
        ModelDirectory(stage.new, before.spec).save()
        assert stage.publish() == ("old",)
    assert not (tmp_path / "old").exists()
    assert (stage.stale / "old" / graph).is_file()
    assert set(ModelDirectory.open(tmp_path).present_variants()) == set(before.present_variants())
