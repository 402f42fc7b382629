"""Splits of a task: labels are the training file's; repeats, conflicts and leaks are told, none is lost."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task
from modelkit.data.checks import read_checks, trained_on
from modelkit.data.dataset import (
    EarlierFile,
    TaskFiles,
    examples_of,
    read_dataset,
    read_datasets,
    unserved,
)
from modelkit.data.notes import notes_on
from modelkit.data.rows import LabelRow
from modelkit.data.texts import AnnotatedText, DataError, LabelledText, Span

ROWS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz")), min_size=1, max_size=12)


def rows_of(pairs: list[tuple[str, str]]) -> list[LabelRow]:
    return [LabelRow(line, text, label) for line, (text, label) in enumerate(pairs, start=1)]


def write(path: Path, **contents: str) -> TaskFiles:
    files = []
    for split, content in contents.items():
        files.append(path / f"{split}.csv")
        files[-1].write_text("text,label\n" + content)
    return TaskFiles.parse("intent:" + ",".join(map(str, files)))


@given(ROWS, ROWS)
def test_every_text_that_is_not_new_is_counted_once(
    train: list[tuple[str, str]], dev: list[tuple[str, str]]
) -> None:
    notes = list(notes_on({"train": rows_of(train), "dev": rows_of(dev)}, sorted("xyz"), "replay"))
    counted = sum(int(note.split(": ")[1].split()[0]) for note in notes if " of 3 labels" not in note)
    new = len({text for text, _ in [*train, *dev]})
    assert counted == len(train) + len(dev) - new
    leaked = [text for text, _ in dev if text in {text for text, _ in train}]
    assert any("earlier split" in note for note in notes) == bool(leaked)


def test_notes_name_lines(tmp_path: Path) -> None:
    files = write(tmp_path, train="hi,a\nhi,a\nyou,b\nyou,a\n", dev="hi,a\nthere,a\n")
    assert read_dataset(files).notes == (
        "intent: train: 1 examples are repeated, the first in line 3",
        "intent: train: 1 texts have another answer than above, the first in lines 4 and 5",
        "intent: dev: 1 texts are in an earlier split too, the first in line 2 and in line 2 of train: "
        "scores on dev flatter",
        "intent: dev: no example of 1 of 2 labels: b",
    )


def test_labels_are_those_of_train_in_order(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, train="hi,b\nyou,a\n", dev="there,b\n", test="well,a\n"))
    assert dataset.task.labels == ("a", "b")
    assert dataset.splits["dev"] == (LabelledText("there", 1),)
    assert dataset.scored_split == "test"


def test_tasks_that_no_replica_answers_with_are_named() -> None:
    tasks = [
        Task(name=name, kind=kind, output=name, labels=("O", "B-X", "I-X"))
        for name, kind in (("intent", "classification"), ("names", "ner"), ("tone", "classification"))
    ]
    assert list(unserved(tasks)) == [
        "tone: served answers are those of intent, the first classification task"
    ]


def test_a_file_is_read_for_a_task_that_is_there(tmp_path: Path) -> None:
    intent = Task(name="intent", kind="classification", output="x", labels=("b", "a"))
    names = Task(name="names", kind="ner", output="x", labels=("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    texts, sentences = tmp_path / "test.csv", tmp_path / "test.conll"
    texts.write_text("text,label\nhi,a\n")
    sentences.write_text("Oslo B-LOC\n\nal B-PER\n")
    assert examples_of(texts, intent) == (LabelledText("hi", 1),)
    assert len(examples_of(sentences, names)) == 2
    with pytest.raises(DataError, match=r"test\.csv:2: another kind of example than task 'names' has"):
        examples_of(texts, names)
    texts.write_text("text,label\nhi,a\nyou,loan\n")
    with pytest.raises(DataError, match=r"test\.csv:3: label 'loan' is not in task 'intent' of the model"):
        examples_of(texts, intent)
    sentences.write_text("Oslo B-LOC\n\nacme B-ORG\n")
    with pytest.raises(DataError, match=r"test\.conll:3: label 'ORG' .* allowed: LOC, PER"):
        examples_of(sentences, names)


def test_entities_become_tags_of_every_type(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("Oslo I-LOC\nsleeps O\n\nal B-PER\n")
    (tmp_path / "dev.jsonl").write_text(
        '{"text": "al", "entities": [{"start": 0, "end": 2, "label": "PER"}]}'
    )
    dataset = read_dataset(TaskFiles.parse(f"names:{tmp_path / 'train.conll'},{tmp_path / 'dev.jsonl'}"))
    assert (dataset.task.kind, dataset.task.output) == ("ner", "names_logits")
    assert dataset.task.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert dataset.splits["dev"] == (AnnotatedText("al", (Span(0, 2, "PER"),)),)
    assert dataset.scored_split == "dev"


def test_mistakes_between_files_are_named(tmp_path: Path) -> None:
    def told(files: TaskFiles) -> str:
        with pytest.raises(UsageError) as caught:
            read_datasets([files])
        return str(caught.value)

    train = tmp_path / "train.csv"
    unknown = told(write(tmp_path, train="hi,a\nyou,b\n", dev="there,a\nwell,loan\n"))
    assert unknown == f"{tmp_path / 'dev.csv'}:3: label 'loan' is not in {train}; allowed: a, b"
    assert told(write(tmp_path, train="hi,a\n", dev="there,a\n")).endswith(
        "train.csv: a in all; expected two labels or more"
    )
    (tmp_path / "dev.conll").write_text("Oslo B-LOC\n")
    other = TaskFiles.parse(f"intent:{train},{tmp_path / 'dev.conll'}")
    train.write_text("text,label\nhi,a\nyou,b\n")
    assert "dev.conll:1: another kind of example than in" in told(other)
    with pytest.raises(UsageError, match="task = 'intent': given 2 times; each name once"):
        read_datasets([other, other])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.jsonl,dev.jsonl", "name 'train.jsonl,dev.jsonl'; allowed: a-z"),
        ("Intent:a.csv,b.csv", "name 'Intent'; allowed: a-z"),
        ("intent:a.csv", "allowed: NAME:TRAIN,DEV[,TEST]"),
        ("intent:a.csv,", "allowed: NAME:TRAIN,DEV[,TEST]"),
        ("intent:a.csv,b.csv,c.csv,d.csv", "allowed: NAME:TRAIN,DEV[,TEST]"),
    ],
)
def test_a_task_of_another_form_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        TaskFiles.parse(text)
    assert str(caught.value).startswith(f"task = {text!r}")
    assert message in str(caught.value)


def test_labels_that_case_or_spaces_tell_apart_are_noted(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, train="hi,Card lost\nyou,card  lost\nwell,b\n", dev="there,b\n"))
    assert (
        "intent: labels 'Card lost' and 'card  lost' differ in case or spaces alone: two labels"
        in dataset.notes
    )


def test_a_text_in_another_case_spacing_or_composition_is_the_same_text(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        train="Caf\u00e9 open?,a\nwell,b\nWELL,b\n",
        dev="cafe\u0301  open?,a\nb,b\n",
        test="new,a\nnewer,b\n",
    )
    (tmp_path / "replay.csv").write_text("text,label\nWell,b\nNew,a\n")
    assert read_dataset(files, replay=tmp_path / "replay.csv").notes == (
        "intent: train: 1 examples are repeated, the first in line 4",
        "intent: replay: 1 texts are in an earlier split too, the first in line 2 and in line 3 of train: "
        "they count twice in training",
        "intent: dev: 1 texts are in an earlier split too, the first in line 2 and in line 2 of train: "
        "scores on dev flatter",
        "intent: test: 1 texts are in an earlier split too, the first in line 2 and in line 3 of replay: "
        "scores on test flatter",
    )
    dataset = read_dataset(write(tmp_path, train="hi,caf\u00e9\nyou,cafe\u0301\n", dev="there,caf\u00e9\n"))
    assert any("differ in case or spaces alone" in note for note in dataset.notes)


@given(st.sets(st.sampled_from("abcdef"), min_size=2), st.sets(st.sampled_from("defghi"), min_size=1))
def test_labels_of_a_checkpoint_come_first_and_stay(known: set[str], new: set[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder)
        files = write(path, train="".join(f"t{one},{one}\n" for one in new), dev=f"hi,{min(known)}\n")
        (path / "replay.csv").write_text(f"text,label\nearlier,{max(known)}\n")
        task = Task(
            name="intent", kind="classification", output="x", labels=tuple(sorted(known, reverse=True))
        )
        dataset = read_dataset(files, task, path / "replay.csv")
    labels = dataset.task.labels
    assert labels[: len(known)] == task.labels
    assert list(labels[len(known) :]) == sorted(new - known)
    learnt = [
        (one.text, labels[one.label]) for one in dataset.splits["train"] if isinstance(one, LabelledText)
    ]
    assert sorted(learnt) == sorted([*((f"t{one}", one) for one in new), ("earlier", max(known))])


def test_checks_and_replays_are_of_tasks_that_are_there(tmp_path: Path) -> None:
    files = write(tmp_path, train="hi,a\nyou,b\n", dev="there,a\n")
    task = Task(name="intent", kind="classification", output="x", labels=("a", "b"))
    dev = EarlierFile("intent", files.splits["dev"])
    datasets = read_datasets([files], [task], [dev])
    [check] = read_checks([dev], [task], datasets)
    assert check.examples == (LabelledText("there", 0),)
    assert list(trained_on([check], datasets)) == [
        f"intent: 1 of 1 texts of {dev.path} are trained on: the check flatters"
    ]
    assert list(trained_on([check], read_datasets([files], [task]))) == []
    dev.path.write_text("text,label\nTHERE,a\n")
    [check] = read_checks([dev], [task], datasets)
    assert len(list(trained_on([check], datasets))) == 1
    with pytest.raises(UsageError, match=r"check = 'intent': not a task to check; allowed: none, as --from"):
        read_checks([dev], [], datasets)
    with pytest.raises(UsageError, match=r"replay = 'other': no task of that name is given; allowed: intent"):
        read_datasets([files], [task], [EarlierFile("other", files.splits["dev"])])
    with pytest.raises(UsageError, match=r"replay = 'intent': given 2 times"):
        read_datasets([files], [task], [dev, dev])
    with pytest.raises(UsageError, match=r"check = 'intent'; allowed: NAME:FILE"):
        EarlierFile.parse("check", "intent")
