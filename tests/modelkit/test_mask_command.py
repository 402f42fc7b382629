"""`minwatt model mask` as it is called: names by the shipped model, files, the report, mistakes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from minwatt.cli import main
from minwatt.resources import default_model_dir
from modelkit.mask.names import NameFinder
from tests.tiny_model import write_tiny_model

# Written by hand before any of them was tried. Names of many places, as customers give them.
NAMED = (
    ("Hi, my name is Alice Smith and my card has not arrived", "Alice Smith"),
    ("This is John Baker, why was my transfer declined?", "John Baker"),
    ("please send it to Maria Garcia at once", "Maria Garcia"),
    ("I sent 200 to Ahmed Khan yesterday but he got nothing", "Ahmed Khan"),
    ("Yours, Priya Sharma", "Priya Sharma"),
    ("the card is in the name of Wei Zhang", "Wei Zhang"),
    ("ask Dr. O'Neill", "O'Neill"),
    ("Jean-Pierre Dupont called", "Jean-Pierre Dupont"),
    ("can you add sarah connor as a user?", "sarah connor"),
    ("Kind regards, Zoë Müller", "Zoë Müller"),
    ("MY NAME IS EMMA WATSON", "EMMA WATSON"),
    ("Account holder: Olga Ivanova", "Olga Ivanova"),
)
UNNAMED = (
    "How do I locate my card?",
    "I still have not received my new card, I ordered over a week ago.",
    "What is today's rate for euros?",
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["model", "mask", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_the_shipped_model_finds_names_and_leaves_questions() -> None:
    finder = NameFinder(default_model_dir(), ("PER",), 0.5)
    found = finder.find([text for text, _ in NAMED])
    for (text, name), names in zip(NAMED, found, strict=True):
        start = text.index(name)
        assert any(one.start <= start and start + len(name) <= one.end for one in names), text
    assert finder.find(UNNAMED) == [[], [], []]


def test_a_text_longer_than_the_model_reads_is_read_whole(tiny: Path) -> None:
    text = " ".join(["where is my card"] * 40 + ["alice smith lives in paris"] + ["hello"] * 70 + ["jose"])
    [found] = NameFinder(tiny, ("PER", "LOC"), 0.5).find([text])
    spans = {(text[one.start : one.end], one.kind) for one in found}
    assert spans == {("alice smith", "PERSON"), ("paris", "LOCATION"), ("jose", "PERSON")}


def test_files_go_to_a_folder_with_a_report_of_counts(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, tagged = tmp_path / "train.jsonl", tmp_path / "train.conll"
    train.write_text('{"text": "alice smith at bob@x.de", "label": "a", "note": "x"}\n')
    tagged.write_text("where\tO\njose\tB-PER\n\nparis\tB-LOC\n")
    out, report = tmp_path / "out", tmp_path / "report.json"
    code, _, told = run(capsys, train, tagged, "--out", out, "--model", tiny, "--report", report)
    assert code == 0
    assert (out / "train.jsonl").read_text() == '{"text": "[PERSON] at [EMAIL]", "label": "a", "note": "x"}\n'
    assert (out / "train.conll").read_text() == "where\tO\n[PERSON]\tB-PER\n\nparis\tB-LOC\n"
    written = json.loads(report.read_text())
    assert [file["found"] for file in written["files"]] == [{"EMAIL": 1, "PERSON": 1}, {"PERSON": 1}]
    assert written["files"][0]["fields_left"] == ["note"]
    assert written["model"] == "tiny-text 1 int8"
    assert f"{train}: 1 of 1 texts masked: EMAIL 1, PERSON 1" in told.replace("\n", " ")
    for value in ("alice", "bob@", "jose"):
        assert value not in told + report.read_text()


def test_standard_input_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    stream = io.TextIOWrapper(io.BytesIO('{"text": "né bob@x.de"}\n'.encode()), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(SystemExit) as ended:
        main(["model", "mask", "-", "--entities", "none", "--pseudonyms", "text"])
    assert ended.value.code == 0
    assert capfdbinary.readouterr().out == '{"text": "né [EMAIL_1]"}\n'.encode()


def test_entity_types_of_one_kind_are_all_found(tiny: Path) -> None:
    [merged] = NameFinder(tiny, ("PER", "LOC"), 0.5).find(["alice smith lives in paris"])
    assert [one.kind for one in merged] == ["PERSON", "LOCATION"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("modelkit.mask.names.kind_of_label", lambda _: "NAME")
        [found] = NameFinder(tiny, ("PER", "LOC"), 0.5).find(["alice smith lives in paris"])
    assert [(one.start, one.end) for one in found] == [(one.start, one.end) for one in merged]


def test_a_file_s_name_is_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x[" / "b]" / "a.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"text": "a@x.de"}\n')
    code, out, told = run(capsys, file, "--entities", "none")
    assert (code, out) == (0, '{"text": "[EMAIL]"}\n')
    assert str(file) in told


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("a.txt",), "a.txt: suffix '.txt'; allowed: jsonl, csv, conll"),
        (("a.jsonl",), "a.jsonl: No such file or directory"),
        (("a.jsonl", "b.jsonl"), "--out: not given, for 2 files"),
        (("x/a.jsonl", "y/a.jsonl", "--out", "o"), "--out: 2 files are named 'a.jsonl'; each name once"),
        (("a.jsonl", "a.jsonl", "--out", "o"), "--out: 2 files are named 'a.jsonl'; each name once"),
        (
            ("-", "a.jsonl", "--out", "o"),
            "-: standard input goes to standard output, alone and without --out",
        ),
        (("a.jsonl", "--format", "xml"), "--format = 'xml'; allowed: jsonl, csv, conll"),
        (("a.conll", "--field", "question"), "--field: a.conll has no fields; it is for jsonl and csv"),
        (("a.jsonl", "--region", "uk"), "--region = 'uk': allowed: two capital letters of a country"),
        (("a.jsonl", "--keep", "PEOPLE"), "--keep = 'PEOPLE': allowed: URL, EMAIL"),
        (("a.jsonl", "--pseudonyms", "all"), "--pseudonyms = 'all': allowed: none, text, run"),
        (
            ("a.jsonl", "--entities", "PER,CAT"),
            "--entities = 'PER,CAT': 'CAT'; allowed: none, or of LOC, ORG, PER",
        ),
        (("a.jsonl", "--entities", ""), "--entities = '': ''; allowed: none, or of LOC, ORG, PER"),
        (("a.jsonl", "--entities", "none", "--model", "m"), "--model: goes without --entities none"),
        (("a.jsonl", "--model", "m"), "m/model.yaml: can't be read"),
        (("a.jsonl", "--min-score", "0"), "Invalid value for '--min-score'"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith(f"minwatt model: {line}")
    assert err.count("\n") == 1
