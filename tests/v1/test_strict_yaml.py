"""What YAML may say twice, and what it may not."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from minwatt.v1.strict_yaml import SeveralDocumentsError, UnreadableYamlError, load

scalars = st.none() | st.booleans() | st.integers() | st.text()
keys = st.integers() | st.text("aB é-:#'\"{}[]0")  # PyYAML reads some of its rarer characters as others
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)


@given(documents)
def test_without_repetition_it_reads_as_yaml_does(document: Any) -> None:
    text = yaml.safe_dump(document, allow_unicode=True)
    assert load(text) == yaml.safe_load(text)


@settings(max_examples=30)
@given(st.lists(documents, min_size=2, max_size=3))
def test_several_documents_are_said_with_the_line_of_the_second(several: list[Any]) -> None:
    first = yaml.safe_dump(several[0], explicit_start=True)
    text = first + yaml.safe_dump_all(several[1:], explicit_start=True)
    with pytest.raises(SeveralDocumentsError) as raised:
        load(text)
    line = first.count("\n") + 1
    said = f"several YAML documents, the second begins at line {line}; allowed: one per file"
    assert (str(raised.value), raised.value.line) == (said, line)


@pytest.mark.parametrize(
    "text", ["", "# none\n", "---\na: 1\n", "a: 1\n...\n", "%YAML 1.1\n---\na: 1\n...\n# the end\n"]
)
def test_the_marks_of_one_document_make_no_second(text: str) -> None:
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a: 1\nb: !!int ""', "a value is not of its tag"),
        ("a: 1\nb: !!bool maybe", "a value is not of its tag"),
        ("a: 1\nb: !!timestamp x", "a value is not of its tag"),
        ("a: 1\nb: !!map [a]", "expected a mapping node, but found sequence"),
        ("a: 1\nb: 2026-13-45", "month must be in 1..12"),
        (f"a: 1\nb: {'1' + ':1' * 200}.0", "a value is not of its tag"),  # more than a float can be
    ],
)
def test_a_value_that_is_not_of_its_tag_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UnreadableYamlError) as raised:
        load(text)
    assert str(raised.value).startswith(f"not YAML: {said}")
    assert raised.value.line == 2


TAGS = (
    "binary", "bool", "float", "int", "map", "merge", "null", "omap", "pairs", "seq", "set", "str",
    "timestamp", "value", "python/tuple", "no-such",
)  # fmt: skip
plain = st.text("019xaeZT:-+._=ybo ", max_size=12) | st.sampled_from(["maybe", "<<", "2026-11-22T10:00:00Z"])
quoted = plain.map(lambda value: f'"{value}"') | st.just('"\\UFFFFFFFF"')


def tagged(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("!!{} {}".format, st.sampled_from(TAGS), values) | values


nested = st.recursive(
    tagged(quoted | plain),
    lambda inner: tagged(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(tagged(quoted), inner), max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} : {value}" for key, value in items) + "}"
        )
    ),
    max_leaves=6,
)


@given(nested)
def test_whatever_the_tags_it_is_read_or_refused(text: str) -> None:
    with suppress(UnreadableYamlError):
        load(text)
