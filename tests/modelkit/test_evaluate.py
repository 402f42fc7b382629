"""Evaluation on a tiny model whose answers are known, and its errors as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from minwatt.cli import main
from minwatt.v1.decode import top_labels
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from modelkit.data.dataset import TaskFiles
from modelkit.inference import Graph, encode, load_tokenizer, run_batch
from modelkit.scoring.evaluate import evaluate
from tests.tiny_model import INTENTS, TAGS

SETS = {"intent": "questions", "entity": "people"}
TEXTS = ("where is my card", "cancel it", "hello", "the rate of the balance", "my balance is the balance")


@pytest.fixture
def data(tmp_path: Path, tiny_model: Path) -> Path:
    """Texts labelled as the tiny model answers them, but for one; sentences it reads rightly, but for one."""
    directory = ModelDirectory.open(tiny_model)
    tokenizer = load_tokenizer(directory.tokenizer_file(), directory.spec.max_tokens)
    answers = run_batch(Graph(directory.variant_file("int8")), encode(tokenizer, TEXTS))
    labels = [top_labels(answer.intents, INTENTS, 2, 0.0) for answer in answers]
    names = [labels[0][1].name, *(best[0].name for best in labels[1:])]
    questions, people = tmp_path / "questions", tmp_path / "people"
    questions.mkdir()
    people.mkdir()
    (questions / "labels.txt").write_text("\n".join(INTENTS))
    lines = (json.dumps({"text": t, "label": n}) for t, n in zip(TEXTS, names, strict=True))
    (questions / "test.jsonl").write_text("\n".join(lines))
    (people / "labels.txt").write_text("\n".join(TAGS))
    (people / "test.conll").write_text(
        "Alice\tB-PER\nSmith\tI-PER\nlives\tO\nin\tO\nNew\tB-LOC\nYork\tI-LOC\n\n"
        "José\tB-PER\nis\tO\nat\tO\nAcme\tB-ORG\nBank\tI-ORG\n\n"
        "Alice\tB-PER\nis\tO\nin\tO\nParis\tO\n"  # Paris will be found: one entity too many
    )
    return tmp_path


def test_scores_count_what_is_right(tiny_model: Path, data: Path) -> None:
    [score] = evaluate(tiny_model, data, sets=SETS).variants
    assert score.accuracy == pytest.approx(4 / 5)
    assert score.entity_precision == pytest.approx(5 / 6)
    assert score.entity_recall == 1
    assert score.entity_f1 == pytest.approx(10 / 11)
    assert (score.company_texts, score.company_label_flips, score.company_entity_flips) == (8, 0, 0)
    assert score.company_largest_change < 1e-6
    # No fp32 on disk: how it compares is unknown, neither 1 nor 0.
    assert (score.speed_vs_fp32, score.changed_labels, score.changed_entities) == (None, None, None)


def test_the_command_prints_the_same_scores(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    spec = ModelDirectory.open(model).spec
    intent, entity = spec.tasks
    renamed = entity.model_copy(update={"name": "entities"})  # the name that the command's options feed
    ModelDirectory(model, spec.model_copy(update={"tasks": (intent, renamed)})).save()
    arguments = ["--data", str(data), "--json", "--intent-set", "questions", "--entity-set", "people"]
    with pytest.raises(SystemExit) as caught:
        main(["model", "evaluate", str(model), *arguments])
    printed = json.loads(capsys.readouterr().out)
    assert caught.value.code == 0
    assert printed["variants"][0] == evaluate(tiny_model, data, sets=SETS).variants[0].model_dump()


def test_the_command_exits_2_with_one_line(
    tiny_model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["model", "evaluate", str(tiny_model), "--data", str(data)])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1:] == [
        "minwatt model: sets: none for task 'entity'; given for intent, entities"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("questions/labels.txt", "\n".join([*INTENTS, "loan"])),
            "label 'loan' is not in both the set and task 'intent'",
        ),
        (
            ("questions/test.jsonl", '{"text": "hi", "label": "loan"}'),
            r"test\.jsonl:1: label 'loan'; allowed: balance",
        ),
        (("people/test.conll", "Oslo\tB-CITY\n"), r"test\.conll:1: tag 'B-CITY'; allowed: O, B-PER"),
    ],
)
def test_data_that_does_not_fit_is_named(
    tiny_model: Path, data: Path, change: tuple[str, str], message: str
) -> None:
    (data / change[0]).write_text(change[1])
    with pytest.raises(UsageError, match=message):
        evaluate(tiny_model, data, sets=SETS)


def test_scores_on_files_are_those_on_a_folder(tiny_model: Path, data: Path) -> None:
    texts, people = data / "questions" / "test.jsonl", data / "people" / "test.conll"
    files = tuple(
        TaskFiles(name, dict.fromkeys(("train", "dev", "test"), path))
        for name, path in (("intent", texts), ("entity", people))
    )
    [by_files], [by_folder] = (evaluate(tiny_model, source, sets=SETS).variants for source in (files, data))
    assert by_files == by_folder
    without_test = TaskFiles("entity", {"train": people, "dev": people})
    with pytest.raises(UsageError, match="task = 'entity': no test file; given: train, dev"):
        evaluate(tiny_model, (files[0], without_test))
    with pytest.raises(UsageError, match="sets: none for task 'entity'; given for intent"):
        evaluate(tiny_model, files[:1])


def test_a_model_with_one_task_is_scored_on_it(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    spec = ModelDirectory.open(tiny_model).spec
    whole = evaluate(tiny_model, data, sets=SETS).variants[0]
    for task, given in zip(spec.tasks, (("accuracy",), ("entity_f1", "entity_recall")), strict=True):
        alone = spec.model_copy(update={"tasks": (task,)})
        ModelDirectory(tmp_path / "model", alone).save()
        score = evaluate(tmp_path / "model", data, sets=SETS).variants[0]
        for name in ("accuracy", "entity_f1", "entity_recall"):
            assert getattr(score, name) == (getattr(whole, name) if name in given else None)
    second = spec.tasks[0].model_copy(update={"name": "tone"})
    ModelDirectory(tmp_path / "model", spec.model_copy(update={"tasks": (*spec.tasks, second)})).save()
    with pytest.raises(UsageError, match="task 'tone' is not the first classification task"):
        evaluate(tmp_path / "model", data, sets=SETS)


def test_unknown_variants_splits_and_missing_files_are_named(tiny_model: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="variant = 'int4'"):
        evaluate(tiny_model, data, ("int4",), sets=SETS)
    with pytest.raises(UsageError, match="split = 'all': allowed are train, dev, test"):
        evaluate(tiny_model, data, split="all", sets=SETS)
    with pytest.raises(UsageError, match=r"dev\.jsonl: No such file"):
        evaluate(tiny_model, data, split="dev", sets=SETS)


def test_a_graph_that_does_not_fit_its_model_yaml_is_named(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    spec = ModelDirectory.open(model).spec
    intent, entity = spec.tasks

    def told(update: dict[str, object]) -> str:
        changed = spec.model_copy(update={"tasks": (intent.model_copy(update=update), entity)})
        ModelDirectory(model, changed).save()
        with pytest.raises(UsageError) as caught:
            evaluate(model, data, sets=SETS)
        return str(caught.value)

    assert "no output 'elsewhere'; there: " in told({"output": "elsewhere"})
    fewer = len(INTENTS) - 1
    assert f"has {len(INTENTS)} columns, model.yaml {fewer} labels" in told({"labels": intent.labels[:-1]})
    (tmp_path / "junk.onnx").write_text("junk")
    with pytest.raises(UsageError, match=r"junk\.onnx: not a graph that ONNX Runtime runs"):
        Graph(tmp_path / "junk.onnx")
