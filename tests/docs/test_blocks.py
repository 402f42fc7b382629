"""What stands in the pages works: Python runs, commands are parsed, files are read by what reads them.

The blocks of docs/client.md run in tests/client/test_docs.py. Commands are parsed by the parser that would
run them; test_shell.py runs those that take seconds.
"""

from __future__ import annotations

import importlib
import json
import re
import runpy
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from typer.main import get_command

from minwatt.cli import COMMANDS
from minwatt.resources import default_model_dir
from minwatt.v1 import strict_yaml
from nodeagent.policy import read_policy
from scaler.policy import load_policy
from service.tenants import read_tenants
from tests.docs.blocks import ROOT, Block, blocks
from tests.e2e.replica_process import ReplicaProcess

ALL = list(blocks())
OF_COMMANDS = [block for block in ALL if block.commands]
OF_PYTHON = [block for block in ALL if block.language == "python" and block.page.name != "client.md"]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PORT = "8500"  # on the pages


def named(of: list[Block]) -> Any:
    return pytest.mark.parametrize("block", of, ids=lambda block: block.where)


def the(language: str) -> list[Block]:
    return [block for block in ALL if block.language == language]


@named(OF_COMMANDS)
def test_a_command_is_one_that_there_is(block: Block) -> None:
    for program, *words in block.commands:
        if program == "minwatt":
            _parsed(words)
        elif program == "make":
            assert {word for word in words if re.fullmatch("[a-z-]+", word)} <= TARGETS, words
        elif program in {"python", "python3"} and words[0] == "-m":
            assert find_spec(words[1]), words
        elif program in {"python", "python3"}:
            assert (ROOT / words[0]).is_file(), words
        elif program in {"kubectl", "docker"}:
            for flag, file in pairwise(words):
                if flag in {"-k", "-f"} and file.startswith(("k8s/", "examples/")):
                    assert (ROOT / file).exists(), words
        elif "minwatt" in words:  # torchrun and the like
            _parsed(words[words.index("minwatt") + 1 :])


def _parsed(words: list[str]) -> None:
    """By the command's own parser, down to its subcommand; nothing runs."""
    name, *rest = words
    assert name in COMMANDS, words
    module, attribute, _ = COMMANDS[name]
    app = getattr(importlib.import_module(module), attribute)
    if not isinstance(app, typer.Typer):
        function, app = app, typer.Typer(add_completion=False)
        app.command()(function)
    command: Any = get_command(app)
    while True:
        context = command.make_context(name, [word if word != "…" else "left:out" for word in rest])
        below = getattr(command, "commands", {})
        left = [*getattr(context, "_protected_args", []), *context.args]
        if not below or not left:
            return
        name, *rest = left
        command = below[name]


@pytest.fixture(scope="module")
def replica() -> Iterator[ReplicaProcess]:
    with ReplicaProcess(default_model_dir(), "--meter", "modelled") as replica:
        yield replica


@named(OF_PYTHON)
def test_python_runs(
    block: Block, replica: ReplicaProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = replica.target.rpartition(":")[2]
    text = re.sub(rf"(127\.0\.0\.1|localhost):{PORT}", rf"\1:{port}", block.text)
    script = tmp_path / "block.py"
    script.write_text(text if "import" in text else f"import minwatt\n{text}")
    runpy.run_path(str(script))
    out = capsys.readouterr().out
    assert out or "print" not in text
    if "Angela Merkel" in text:
        assert "card_arrival [('card_arrival'," in out
        assert "PER Angela Merkel 0 13\nORG SAP 18 21\nLOC Zürich 25 31\n" in out


@named(the("yaml"))
def test_yaml_is_read_by_what_reads_it(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(block.text)
    documents = list(yaml.safe_load_all(block.text))
    kinds = {document.get("kind") for document in documents}
    if kinds == {"PowerPolicy"}:
        load_policy(file)
    elif kinds == {"NodePolicy"}:
        read_policy(file)
    elif "tenants" in documents[0]:
        read_tenants(file)
    else:
        for text in re.split(r"^---$", block.text, flags=re.MULTILINE):
            document = strict_yaml.load(text)
            if "rbac" in document.get("apiVersion", ""):
                kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@named(the("promql"))
def test_promql_is_read_by_prometheus(block: Block, tmp_path: Path) -> None:
    """An expression a line, or one over several."""
    lines = [line.partition("  #")[0] for line in block.text.splitlines()]
    expressions = [block.text] if any(line.startswith(" ") for line in lines) else lines
    rules = [{"record": f"a:b:c{number}", "expr": text} for number, text in enumerate(expressions)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "docs", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@named([block for block in the("") if block.text.startswith("{")])
def test_a_line_of_json_is_json(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)
