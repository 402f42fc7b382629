"""The stand-in held against what a real API server answered, step by step.

The recordings lie beside the project (../shared/kube-recordings); without them this file is skipped, and
test_stand_in_answers.py holds the shapes that the controller relies on. Compared: status, and the whole
answer but for what is of the moment (uids, times, versions, random name endings) and managedFields, which
the stand-in does not keep. Where the two differ on purpose, `DIFFERENT` says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kube_api.http_client import Asking, Reply
from tests.kube_api.stand_in import KubeApi

RECORDINGS = Path(__file__).resolve().parents[4] / "shared" / "kube-recordings" / "transcripts.json"

pytestmark = pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings lie beside the project")

DIFFERENT = {
    "version": "the stand-in says that it is one: only the fields' names are alike",
    "scale-get": "the recorded answer shows the replicas that the recorder asked for next",
    "pods-pending-unscheduled": "the stand-in's pods lack the volumes and tolerations that admission adds",
    "pods-list-paged": "as above",
    "policy-watch-from-0": "the recorded server's storage could not begin such a watch; etcd can",
    "sa-token": "the recorded token is left out",
}


def steps() -> list[Any]:
    return json.loads(RECORDINGS.read_text()) if RECORDINGS.exists() else []


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Reply]]:
    with KubeApi(tmp_path_factory.mktemp("kube-api")) as api:
        api.cluster.schedule_s = 1e9  # no scheduler ran when it was recorded
        yield Replay(api).run()


class Replay:
    """Sends each recorded request, with the versions and uids of the stand-in for the recorded ones."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._ours: dict[str, str] = {}

    def run(self) -> dict[str, Reply]:
        return {step["step"]: self._sent(step) for step in steps()}

    def _sent(self, step: Mapping[str, Any]) -> Reply:
        asked = step["request"]
        path = re.sub(r"timeoutSeconds=\d+", "timeoutSeconds=0.2", self._translated(asked["path"]))
        body = self._translated(asked["body"]) if asked.get("body") is not None else None
        with Asking(self._api, self._token(step)) as ask:
            reply = ask(asked["method"], path, body, asked.get("content_type") or "application/json")
        self._learn(step["response"], reply.body)
        return reply

    def _token(self, step: Mapping[str, Any]) -> str | None:
        user = step["request"]["user"]
        if step["step"] == "bad-token":
            return "nobody's"
        if user == "cluster-admin":
            return "admin"
        return None if user == "anonymous" else self._api.token("inference", "minwatt-scaler")

    def _translated(self, given: Any) -> Any:
        text = json.dumps(given)
        for recorded, ours in self._ours.items():
            text = text.replace(f'"{recorded}"', f'"{ours}"').replace(
                f"resourceVersion={recorded}&", f"resourceVersion={ours}&"
            )
        return json.loads(text)

    def _learn(self, recorded: Any, ours: Any) -> None:
        if not isinstance(recorded, dict) or not isinstance(ours, dict):
            return
        for key in ("resourceVersion", "uid"):
            was, now = recorded.get("metadata", {}).get(key), ours.get("metadata", {}).get(key)
            if was and now:
                self._ours[was] = now


VARYING = {"uid", "resourceVersion", "creationTimestamp", "continue"}
TIMES = {"lastTransitionTime", "lastUpdateTime", "expirationTimestamp"}


def normal(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        kept = {name: normal(item, name) for name, item in value.items() if name != "managedFields"}
        return {name: item for name, item in kept.items() if not (name == "metadata" and item == {})}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if (
        key == "pod-template-hash"
        or key in VARYING
        or (key in TIMES and not str(value).startswith("2026-11-22T00:00"))
    ):
        return f"<{key}>" if value else value
    if isinstance(value, str):
        value = re.sub(r"(support-text)-[a-z0-9]{7,10}(-[a-z0-9]{5})?\b", r"\1-<hash>", value)
        value = re.sub(r"(too old resource version: 1) \(\d+\)", r"\1 (<oldest>)", value)
        return re.sub(r"(support-text\.)[a-z0-9]{5}(?=\"|$)", r"\1<random>", value)
    return value


@pytest.mark.parametrize("step", steps(), ids=[step["step"] for step in steps()])
def test_answers_as_recorded(step: Mapping[str, Any], replayed: Mapping[str, Reply]) -> None:
    reply = replayed[step["step"]]
    assert reply.code == step["status"]
    if step["step"] not in DIFFERENT:
        assert normal(reply.body) == normal(step["response"])


@pytest.mark.parametrize("name", ["version", "sa-token"])
def test_different_in_values_alone(name: str, replayed: Mapping[str, Reply]) -> None:
    recorded = next(step["response"] for step in steps() if step["step"] == name)
    ours = {key for key in recorded if not key.startswith(("emulation", "minCompatibility"))}
    assert set(replayed[name].body) == ours


def test_scale_as_it_is_and_not_as_it_will_be(replayed: Mapping[str, Reply]) -> None:
    recorded = next(step["response"] for step in steps() if step["step"] == "scale-get")
    assert normal(replayed["scale-get"].body) == normal({**recorded, "spec": {"replicas": 1}})


@pytest.mark.parametrize("name", ["pods-pending-unscheduled", "pods-list-paged"])
def test_pods_wait_as_recorded(name: str, replayed: Mapping[str, Reply]) -> None:
    recorded = normal(next(step["response"] for step in steps() if step["step"] == name))
    ours = normal(replayed[name].body)
    assert ours["metadata"] == recorded["metadata"]
    assert len(ours["items"]) == len(recorded["items"])
    for mine, real in zip(ours["items"], recorded["items"], strict=True):
        assert mine["metadata"] == real["metadata"]
        assert mine["status"] == real["status"]
        assert set(mine["spec"]) <= set(real["spec"])


def test_a_watch_from_the_beginning_shows_what_is_there(replayed: Mapping[str, Reply]) -> None:
    events = replayed["policy-watch-from-0"].body
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "support-text")
    ]
