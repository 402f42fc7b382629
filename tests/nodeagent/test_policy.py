"""The node's policy: what is read, and one line for each mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minwatt.v1.errors import UsageError
from nodeagent import policy
from nodeagent.policy import API_VERSION, own_user_only, read_policy
from tests.nodeagent.in_memory import FIRST, SECOND

HEAD = f"apiVersion: {API_VERSION}\nkind: NodePolicy\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "node-policy.yaml"
    path.write_text(text)
    return path


def test_the_documented_policy_is_read(tmp_path: Path) -> None:
    documented = "\n".join(line for line in (policy.__doc__ or "").splitlines() if line.startswith("    "))
    read = read_policy(write(tmp_path, "\n".join(line[4:] for line in documented.splitlines())))
    assert (read.allow.uids, read.max_ttl_s) == ((65532,), 30.0)
    assert (read.default.sm_clock.min_mhz, read.default.power_limit.max_w) == (600, 400.0)


def test_the_policy_in_the_docs_is_the_documented_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "node-agent.md").read_text()
    (block,) = [part.partition("```")[0] for part in page.split("```yaml\n")[1:]]
    read = read_policy(write(tmp_path, block))
    assert (read.max_ttl_s, len(read.cards), read.default.bystanders) == (30.0, 1, "protect")


def test_a_card_has_the_default_but_for_what_it_has_otherwise(tmp_path: Path) -> None:
    text = (
        f"{HEAD}default: {{shared: false, smClock: {{minMHz: 600}}}}\ncards: {{{FIRST}: {{shared: true}}}}\n"
    )
    read = read_policy(write(tmp_path, text))
    assert (read.of_card(FIRST).shared, read.of_card(FIRST).sm_clock.min_mhz) == (True, 600)
    assert read.of_card(SECOND) == read.default


def test_without_a_file_root_and_the_own_user_may_ask() -> None:
    assert set(own_user_only().allow.uids) == {0, os.getuid()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allow: {uids: [-1]}", "allow.uids.0 = -1: Input should be greater than or equal to 0"),
        ("allow: {uids: [me]}", "allow.uids.0 = 'me': Input should be a valid integer"),
        ("allow: {users: [0]}", "allow.users: Extra inputs are not permitted"),
        ("maxTtl: 2h", "maxTtl = '2h': allowed: 1s to 1h"),
        ("default: {smClock: {minMHz: 900, maxMHz: 600}}", "minMHz = 900 exceeds maxMHz = 600"),
        ("default: {powerLimit: {min: 300}}", "default.powerLimit.min = 300: allowed: a power such as"),
        ("default: {powerLimit: {min: 300W, max: 200W}}", "min = 300W exceeds max = 200W"),
        ("default: {may: [fanSpeed]}", "Input should be 'smClock' or 'powerLimit'"),
        ("default: {bystanders: kill}", "Input should be 'protect' or 'ignore'"),
        ("cards: {all: {}}", "String should match pattern"),
        ("kind: NodePolicy", "field 'kind' is there twice"),
        ("[", "not YAML"),
        ("---\ndefault: {}", "several YAML documents, the second begins at line "),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, HEAD + text)
    with pytest.raises(UsageError) as error:
        read_policy(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ")
    assert said in line
    assert "\n" not in line


def test_a_file_that_is_not_there_or_no_policy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        read_policy(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="apiVersion"):
        read_policy(write(tmp_path, "kind: NodePolicy\n"))
