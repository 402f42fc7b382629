"""An answer's key: other for all that may change the answer, and no way back to the text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec
from service.cache.keys import ModelKeys, fresh_secret, secret_of

SECRET = bytes(range(64))


@pytest.fixture(scope="module")
def spec(tiny_model: Path) -> ModelSpec:
    return ModelDirectory.open(tiny_model).spec


def test_whatever_may_change_the_answer_changes_the_key(spec: ModelSpec) -> None:
    intent, entity = spec.tasks
    graph = spec.variants["int8"].model_copy(update={"sha256": "1" * 64})
    relabelled = intent.model_copy(update={"labels": intent.labels[::-1]})
    models = [
        (SECRET, spec, "int8", "cpu"),
        (fresh_secret(), spec, "int8", "cpu"),
        (SECRET, spec, "fp32", "cpu"),
        (SECRET, spec, "int8", "cuda"),
        (SECRET, spec.model_copy(update={"name": "other"}), "int8", "cpu"),
        (SECRET, spec.model_copy(update={"version": "2"}), "int8", "cpu"),
        (SECRET, spec.model_copy(update={"variants": {**spec.variants, "int8": graph}}), "int8", "cpu"),
        (SECRET, spec.model_copy(update={"tasks": (relabelled, entity)}), "int8", "cpu"),
    ]
    asked = [
        (scope, task, truncate, text)
        for scope in ("", "a")
        for task in (intent, entity)
        for truncate in (False, True)
        for text in ("hello", "Hello", "hello ")
    ]
    keys = [ModelKeys(*model).key(*one) for model in models for one in asked]
    assert len(set(keys)) == len(keys) == len(models) * len(asked)
    assert ModelKeys(SECRET, spec, "int8", "cpu").key(*asked[0]) == keys[0]  # in any process


@given(st.text(), st.text(), st.text(), st.text())
def test_scope_and_text_are_told_apart(spec: ModelSpec, one: str, two: str, three: str, four: str) -> None:
    keys = ModelKeys(SECRET, spec, "int8", "cpu")
    same = (one, two) == (three, four)
    task = spec.tasks[0]
    assert (keys.key(one, task, False, two) == keys.key(three, task, False, four)) == same


def test_the_shared_secret_comes_from_a_file_of_bytes_enough(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(UsageError, match=r"cache-key-file = '.*secret': can't be read \(No such file"):
        secret_of(file)
    file.write_bytes(SECRET)
    assert secret_of(file) == SECRET
    for wrong in (b"password", bytes(65)):
        file.write_bytes(wrong)
        with pytest.raises(UsageError, match=rf"has {len(wrong)} bytes; allowed: 32 to 64"):
            secret_of(file)
