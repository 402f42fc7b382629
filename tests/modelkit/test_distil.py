"""Distilling a tiny teacher: the student is smaller, serves, and a kill changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from modelkit.cli import app
from modelkit.data.dataset import read_datasets
from modelkit.recipe import DistilOptions, DistilWeights, FinetuneOptions, StudentShape
from tests.modelkit.tiny_base import write_base
from tests.modelkit.tiny_tasks import KINDS, QUICK, write_people, write_texts
from tests.tiny_model import WORDS

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("transformers", reason="training needs the train extra")
pytest.importorskip("sklearn", reason="training needs the train extra")


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> DistilOptions:
    """A teacher of two tasks with capitals, and how to distil it."""
    from modelkit.training.finetune import finetune
    from modelkit.training.hearers import Hearers

    path = tmp_path_factory.mktemp("teacher")
    tasks = (write_texts(path), write_people(path))
    options = FinetuneOptions(
        tasks=tasks,
        out_dir=path / "teacher",
        name="teacher",
        base=write_base(path / "base"),
        cased=True,
        training=replace(QUICK, epochs=20),
    )
    finetune(options, read_datasets(tasks), (), Hearers(lambda line: None, lambda done, total: None))
    (path / "texts.txt").write_text("\n\n".join(f"{word} alice" for word in WORDS))
    return DistilOptions(
        teacher=options.out_dir,
        student=StudentShape(layers=1, feed_forward=48),
        tasks=tasks,
        out_dir=path / "student",
        name="student",
        texts=path / "texts.txt",
        training=QUICK,
    )


def run(options: DistilOptions, stop_after: int | None = None) -> list[str]:
    """What it said; `stop_after` kills it once that epoch is reported."""
    from modelkit.training.distil import distil
    from modelkit.training.hearers import Hearers
    from modelkit.training.lesson import read_lesson

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if stop_after is not None and line.startswith(f"epoch {stop_after + 1} "):
            raise KeyboardInterrupt

    distil(options, read_lesson(options), Hearers(say, lambda done, total: None))
    return said


def test_a_student_learns_from_its_teacher_without_a_label(learnt: DistilOptions, tmp_path: Path) -> None:
    from modelkit.inference import Graph

    options = replace(
        learnt,
        out_dir=tmp_path / "student",
        weights=DistilWeights(labels=0.0),
        training=replace(QUICK, epochs=20),
    )
    said = run(options)
    assert "the student begins with the teacher's layers 2" in said
    assert "feed-forward 48 of 96: the strongest units are kept" in said
    assert (
        f"distilling on intent 32, people {2 * len(WORDS)} examples and {len(WORDS)} texts without labels, "
        in ("".join(said))
    )
    student, teacher = ModelDirectory.open(options.out_dir), ModelDirectory.open(options.teacher)
    assert student.spec.tasks == teacher.spec.tasks
    assert student.spec.variants["fp32"].size_bytes < teacher.spec.variants["fp32"].size_bytes
    assert student.spec.variants["fp32"].metrics == {"intent.accuracy": 1.0}
    assert (
        Graph(student.variant_file("fp32"), ("intent_logits", "people_logits")).columns["intent_logits"] == 2
    )
    assert (options.out_dir / "report.json").exists()
    assert not (options.out_dir / ".cache" / "resume.pt").exists()
    # A student has what it takes to teach.
    onward = replace(options, teacher=options.out_dir, out_dir=tmp_path / "third", training=QUICK)
    assert "the student begins with the teacher's layers 1" in run(onward)


def test_a_killed_distillation_ends_with_the_weights_of_one_that_was_not(
    learnt: DistilOptions, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    narrow = replace(learnt, student=StudentShape(1, hidden_size=32, heads=2))
    whole, killed = (replace(narrow, out_dir=tmp_path / name) for name in ("whole", "killed"))
    run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(killed, stop_after=2)
    assert not (killed.out_dir / "model.yaml").exists()
    assert next(line for line in run(killed) if line.startswith("epoch")).startswith("epoch 3 of 3")
    for file in ("model.safetensors", "heads.safetensors"):
        one, other = (load_file(folder.out_dir / "checkpoint" / file) for folder in (whole, killed))
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name]), name


def test_a_student_of_the_teachers_shape_begins_as_its_teacher(learnt: DistilOptions) -> None:
    from modelkit.training.checkpoint import load_checkpoint
    from modelkit.training.student import make_student

    teacher = load_checkpoint(learnt.teacher / "checkpoint")
    student = make_student(teacher, StudentShape(layers=2), teacher.tasks, 0.1)
    assert student.layers == (0, 1)
    ids, mask = torch.tensor([[2, 5, 6, 3]]), torch.ones(1, 4, dtype=torch.long)
    for one, other in zip(teacher(ids, mask), student.network.eval()(ids, mask), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("shape", "fresh"),
    [
        (StudentShape(1, hidden_size=32, heads=2), None),
        (StudentShape(1, hidden_size=32, heads=4), "attention"),
        (StudentShape(2, feed_forward=128), "feed-forward matrices"),
        (StudentShape(1, hidden_size=96, heads=4), "embeddings, heads, layers"),
    ],
)
def test_it_says_what_begins_at_random(learnt: DistilOptions, shape: StudentShape, fresh: str | None) -> None:
    from modelkit.training.checkpoint import load_checkpoint
    from modelkit.training.student import make_student

    teacher = load_checkpoint(learnt.teacher / "checkpoint")
    student = make_student(teacher, shape, teacher.tasks, 0.1)
    told = [note.partition(": ")[2] for note in student.notes if note.startswith("begins at random")]
    assert told == ([] if fresh is None else [fresh])
    config = student.network.encoder.config
    assert config.num_hidden_layers == shape.layers
    assert config.hidden_size == (shape.hidden_size or 64)


def test_layers_are_spread_evenly_with_the_last_among_them() -> None:
    from modelkit.training.student import spread

    assert [spread(few, 6) for few in (1, 2, 3, 4, 6)] == [
        (5,),
        (2, 5),
        (1, 3, 5),
        (0, 2, 3, 5),
        (0, 1, 2, 3, 4, 5),
    ]


def test_the_command_and_its_mistakes(learnt: DistilOptions, tmp_path: Path) -> None:
    def told(options: DistilOptions) -> str:
        with pytest.raises(UsageError) as caught:
            run(options)
        return str(caught.value)

    good = replace(learnt, out_dir=tmp_path / "student")
    assert told(replace(good, name="Bad Name")).startswith("name = 'Bad Name': allowed")
    assert told(replace(good, student=StudentShape(3))).startswith("layers = 3: the teacher has 2")
    assert told(replace(good, student=StudentShape(1, heads=5))).startswith("hidden-size = 64: allowed")
    assert told(replace(good, weights=DistilWeights(temperature=0))).startswith("temperature = 0: allowed")
    assert "are all 0" in told(replace(good, weights=DistilWeights(logits=0, hidden=0, labels=0)))
    assert "no checkpoint/tasks.json; allowed: a model directory" in told(replace(good, teacher=tmp_path))
    renamed = replace(good.tasks[0], name="other")
    assert told(replace(good, tasks=(renamed,))).startswith("task = 'other': ")
    (tmp_path / "more.csv").write_text(
        "label,text\n" + "".join(f"{label},hello\n" for label in (*KINDS, "loan"))
    )
    more = replace(good.tasks[0], splits=dict.fromkeys(("train", "dev"), tmp_path / "more.csv"))
    assert "not as " in told(replace(good, tasks=(more,)))
    (tmp_path / "empty.txt").write_text("\n")
    assert told(replace(good, texts=tmp_path / "empty.txt")).endswith("no texts; expected one a line")
    files = ",".join(map(str, learnt.tasks[0].splits.values()))
    arguments = [str(learnt.teacher), "--task", f"intent:{files}", "--layers", "1", "--epochs", "1"]
    result = CliRunner().invoke(
        app,
        ["distil", *arguments, "--out", str(tmp_path / "mine"), "--max-tokens", "32"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert ModelDirectory.open(tmp_path / "mine").spec.name == "mine"
