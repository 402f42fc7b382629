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


def test_the_page_has_examples() -> None:
    assert len(BLOCKS) == 6


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.sub(r"\W+", "-", block)[-40:])
def test_an_example_runs(
    block: str, replica: ReplicaProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
