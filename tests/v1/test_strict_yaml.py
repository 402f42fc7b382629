"""What YAML may say twice, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.strict_yaml import UnreadableYamlError, load

scalars = st.none() | st.booleans() | st.integers() | st.text()
keys = st.integers() | st.text("aB é-:#'\"{}[]0")  # PyYAML reads some of its rarer characters as others
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)


@given(documents)
def test_without_repetition_it_reads_as_yaml_does(document: Any) -> None:
    text = yaml.safe_dump(document, allow_unicode=True)
    assert load(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a"),
        ("a:\n  - b: 1\n    c: 2\n    b: 1\n", 4, "b"),
        ("{a: 1, a: 1}", 1, "a"),
        ("1: a\n0x1: b\n", 2, "1"),  # the same number
    ],
)
def test_a_field_that_is_there_twice_is_named_with_its_line(text: str, line: int, field: str) -> None:
    with pytest.raises(UnreadableYamlError) as raised:
        load(text)
    assert (raised.value.line, raised.value.twice) == (line, field)
    assert str(raised.value) == f"field {field!r} is there twice, again at line {line}"


def test_a_merge_may_be_overridden() -> None:
    assert load("base: &b {x: 1, y: 2}\nown:\n  <<: *b\n  y: 3\n")["own"] == {"x": 1, "y": 3}


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    refused = None
    try:
        load(text)
    except UnreadableYamlError as error:
        refused = error
    assert "\n" not in str(refused)
    assert refused is None or refused.line is None or refused.line >= 1
