"""KServe's own client against a replica. It lives in an environment of its own: it would bring FastAPI,
pandas and the clients of three clouds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import minwatt
from tests.e2e.replica_process import ReplicaProcess

pytestmark = pytest.mark.both_modes

PYTHON = Path(__file__).parents[2] / ".kserve" / "bin" / "python"
CLIENT = Path(__file__).with_name("kserve_client.py")
TEXTS = ["where is my card", "alice lives in paris"]


@pytest.mark.skipif(not PYTHON.exists(), reason="KServe is not here: `make kserve` brings it")
def test_kserve_s_client_gets_the_answers_of_minwatt_s(tiny_model: Path) -> None:
    with ReplicaProcess(tiny_model, "--meter", "modelled") as replica:
        command = [str(PYTHON), str(CLIENT), replica.target, "tiny-text"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert ran.returncode == 0, ran.stderr
        with minwatt.Client(replica.target) as client:
            intents, entities = client.classify(TEXTS), client.extract_entities(TEXTS)
    told = json.loads(ran.stdout)
    assert told["states"] == [True, True, True]
    assert told["intents"]["id"] == "typed"
    assert told["intents"]["model"] == ["tiny-text.intent", "1"]
    assert told["intents"]["LABELS"] == [one.label for one in intents]
    assert told["intents"]["SCORES"] == pytest.approx([one.score for one in intents])
    assert told["entities"]["id"] == "raw"
    found = [[entity["text"] for entity in json.loads(row)] for row in told["entities"]["ENTITIES"]]
    assert found == [[entity.text for entity in one.entities] for one in entities] == [[], ["alice", "paris"]]
    assert told["refused"] == "NOT_FOUND"
