"""The documentation builds without a warning: each page in its place, each link to what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from scripts import cli_reference

ROOT = Path(__file__).resolve().parents[2]


def test_the_site_builds_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "index.html").read_text()
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page)
    assert not fetched
    assert "minwatt.v1" in (tmp_path / "reference/protocol.html").read_text(), "the contract as it stands"


def test_the_reference_of_the_commands_is_fresh() -> None:
    assert cli_reference.PAGE.read_text() == cli_reference.page(), "python -m scripts.cli_reference"


def test_the_readme_links_to_what_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text)}
    missing = [one for one in targets if not one.startswith("http") and not (ROOT / one).exists()]
    assert not missing
