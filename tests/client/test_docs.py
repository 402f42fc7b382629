"""The examples of docs/client.md run as they stand, against a real replica."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.replica_process import ReplicaProcess

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
PORT = "8500"  # on the page


@pytest.fixture(scope="module")
def replica(tiny_model: Path) -> Iterator[ReplicaProcess]:
    with ReplicaProcess(tiny_model, "--meter", "modelled") as replica:
        yield replica


ANSWER = r"\w+ [01]\.\d+\n"
PRINTED = (  # by each block, in their order
    rf"({ANSWER}){{2}}\S+ \d+ tokens \S+ J modelled\n(\S+ .+ \d+ \d+\n)*",
    r"texts\[1\] is empty.*\n.*\n",
    r"(card \d+ is where\?\n)*",
    rf"({ANSWER}){{100}}",
    r"30 .*\n",
    r"api_key: would travel unencrypted to text\.example\.org:8500; .*\n",
)


@pytest.mark.parametrize(
    ("block", "printed"), tuple(zip(BLOCKS, PRINTED, strict=True)), ids=range(len(BLOCKS))
)
def test_an_example_runs_and_prints_what_it_is_to(
    block: str,
    printed: str,
    replica: ReplicaProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    authority = trustme.CA()
    client = authority.issue_cert("app@example.org")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "example.py"
    port = replica.target.rpartition(":")[2]
    script.write_text(re.sub(rf"(127\.0\.0\.1|localhost):{PORT}", rf"\1:{port}", block))
    runpy.run_path(str(script))
    out = capsys.readouterr().out
    assert re.fullmatch(printed, out), out
