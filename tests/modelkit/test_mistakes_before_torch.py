"""A mistake in what is given is told before torch is asked for: who has none learns of both one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from minwatt.commands.model import app
from minwatt.v1.errors import UsageError
from tests.tiny_model import write_tiny_model

TASK = "intent:train.csv,dev.csv"


def torch_is_asked_for() -> None:
    raise AssertionError("before the mistake is told")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without a checkpoint, one with a checkpoint's names, and data with a bad second line."""
    monkeypatch.chdir(tmp_path)
    for command in ("distil", "prune", "export"):
        monkeypatch.setattr(f"modelkit.commands.{command}.train_extra", torch_is_asked_for)
    write_tiny_model(tmp_path / "bare")
    write_tiny_model(tmp_path / "whole")
    (tmp_path / "whole" / "checkpoint").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / "whole" / "checkpoint" / name).write_text("{}")
    (tmp_path / "whole" / "checkpoint" / "tasks.json").write_text(
        '[{"name": "intent", "kind": "classification", "output": "intent_logits", "labels": ["a", "b"]}]'
    )
    (tmp_path / "train.csv").write_text("text,label\nhi,a\nyou,b\n")
    (tmp_path / "dev.csv").write_text("text,label\n,a\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("distil", "gone", "--layers", "1", "--task", TASK), "teacher = 'gone': no checkpoint/tasks.json"),
        (("distil", "whole", "--layers", "1", "--task", TASK), "dev.csv:2: text ''; expected a text"),
        (("distil", "whole", "--layers", "1", "--task", "intent:a.csv"), "task = 'intent:a.csv'; allowed:"),
        *(
            (("distil", "whole", "--layers", "1", "--task", TASK, "--loss-weight", weight), line)
            for weight, line in (
                ("people:2", "loss-weight = 'people:2': task 'people'; allowed: intent"),
                ("intent", "loss-weight = 'intent'; allowed: NAME:WEIGHT"),
                ("intent:0", "loss-weight = 'intent:0': allowed: a finite number above 0"),
                ("intent:nan", "loss-weight = 'intent:nan': allowed: a finite number above 0"),
            )
        ),
        (
            ("distil", "whole", "--layers", "1", "--task", TASK, *2 * ("--loss-weight", "intent:2")),
            "loss-weight = 'intent:2': task 'intent' has one already; allowed: one a task",
        ),
        (("prune", "gone", "--heads", "0.5", "--task", TASK), "gone/model.yaml: can't be read"),
        (("prune", "bare", "--heads", "0.5", "--task", TASK), "bare: no checkpoint/ in it"),
        (("prune", "whole", "--heads", "0.5", "--task", TASK), "dev.csv:2: text ''; expected a text"),
        (("prune", "whole", "--task", TASK), "nothing to prune; expected heads"),
        (("export", "gone"), "checkpoint = 'gone': no config.json"),
        (("export", "whole", "--task", TASK), "dev.csv:2: text ''; expected a text"),
        (("export", "whole", "--task", "intent:a.csv"), "task = 'intent:a.csv'; allowed:"),
        (("export", "whole", "--data", "gone"), "gone/banking77/labels.txt: No such file"),
    ],
)
def test_it_is_told_and_nothing_is_written(arguments: tuple[str, ...], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        app([*arguments, "--out", "out"], standalone_mode=False)
    assert str(caught.value).startswith(line)
    assert not Path("out").exists()
