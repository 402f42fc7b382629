"""What the client asks for."""

from __future__ import annotations

from typing import Any

import pytest

import minwatt
from minwatt.requests import classify_request, extract_request
from minwatt.v1 import inference_pb2 as pb


def test_requests_are_interactive_unless_they_say_batch() -> None:
    asked = [
        classify_request("", ["a"]),
        classify_request("", ["a"], priority="batch"),
        extract_request("", ["a"], priority="batch"),
    ]
    priorities = [request.options.priority for request in asked]
    assert priorities == [pb.PRIORITY_INTERACTIVE, pb.PRIORITY_BATCH, pb.PRIORITY_BATCH]


def test_options_travel() -> None:
    request = classify_request("m", ["a", "b"], top_k=3, min_score=0.5, truncate=True)
    assert (request.model, list(request.texts)) == ("m", ["a", "b"])
    options = request.options
    assert (options.top_k, options.min_score, options.long_text) == (3, 0.5, pb.LONG_TEXT_TRUNCATE)
    assert extract_request("m", ["a"]).options.long_text == pb.LONG_TEXT_REFUSE


def test_a_priority_there_is_not_is_named() -> None:
    wrong: Any = "urgent"
    with (
        minwatt.Client("127.0.0.1:1") as client,
        pytest.raises(ValueError, match="priority = 'urgent': allowed: interactive, batch"),
    ):
        client.classify(["a"], priority=wrong)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deadline_is_a_positive_number(timeout_s: float) -> None:
    with minwatt.Client("127.0.0.1:1") as client, pytest.raises(ValueError, match="timeout_s = "):
        client.classify(["a"], timeout_s=timeout_s)
