"""The replica's side of the node agent: which card is its own, and joules that never go back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.gpu import GpuError
from energy.reading import Reading, Unknown
from minwatt.v1.errors import UsageError
from minwatt.v1.node_agent import CardInfo, ReadReply
from service.agent_connection import AgentGone, Whereabouts, card_of
from service.node_agent import AgentMeter
from service.settings import ServeSettings

A, B = "GPU-aaaa", "GPU-bbbb"
TWO = (CardInfo(card=A, name="x", shared=False), CardInfo(card=B, name="x", shared=False))
SPLIT = (CardInfo(card=A, name="x", shared=True, slices=("MIG-1", "MIG-2")),)


def where(environ: Mapping[str, str], own_uuid: str | None = None) -> Whereabouts:
    return Whereabouts(Path("/nowhere/agent.sock"), environ, lambda index: own_uuid)


@pytest.mark.parametrize(
    ("cards", "environ", "own_uuid", "card"),
    [
        (TWO, {"CUDA_VISIBLE_DEVICES": B}, None, B),
        (TWO, {"CUDA_VISIBLE_DEVICES": "GPU-b"}, None, B),  # the runtime takes the beginning of a name
        (TWO, {}, B, B),
        (TWO, {"CUDA_VISIBLE_DEVICES": "1", "NVIDIA_VISIBLE_DEVICES": f"{A},{B}"}, None, B),
        (TWO, {"NVIDIA_VISIBLE_DEVICES": A}, None, A),
        (TWO[:1], {}, None, A),
        (TWO[:1], {"NVIDIA_VISIBLE_DEVICES": "void"}, None, A),
        (SPLIT, {"NVIDIA_VISIBLE_DEVICES": "MIG-2"}, None, "MIG-2"),
        (SPLIT, {}, "MIG-1", "MIG-1"),
    ],
)
def test_the_card_of_a_replica(
    cards: tuple[CardInfo, ...], environ: dict[str, str], own_uuid: str | None, card: str
) -> None:
    assert card_of(cards, where(environ, own_uuid)) == card


@pytest.mark.parametrize(
    ("cards", "environ", "said"),
    [
        (TWO, {}, f"is not clear: CUDA_VISIBLE_DEVICES or NVIDIA_VISIBLE_DEVICES names none of {A}, {B}"),
        (TWO, {"CUDA_VISIBLE_DEVICES": "GPU-c"}, "is not clear"),
        (TWO[:1], {"CUDA_VISIBLE_DEVICES": "GPU-c"}, "is not clear"),
        (SPLIT, {}, "is not clear"),
        (TWO, {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES hides every GPU"),
        ((), {}, "it has no cards"),
    ],
)
def test_a_card_that_is_not_clear_is_not_guessed(
    cards: tuple[CardInfo, ...], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(GpuError, match=said):
        card_of(cards, where(environ))


class Told:
    """An agent that answers with what it is told to."""

    is_open = True

    def __init__(self, *answers: ReadReply | GpuError) -> None:
        self.answers = list(answers)

    def close(self) -> None:
        pass

    def ask(self, request: Any, expected: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, GpuError):
            raise answer
        return answer


def told(joules: float | None, epoch: str = "first", source: str = "nvml", age_s: float = 0.0) -> ReadReply:
    return ReadReply(
        source=source,
        device=A if source == "nvml" else f"{A}/pod:x",
        epoch=epoch,
        age_s=age_s,
        joules_total=joules,
        watts=None if joules is None else 60.0,
        unknown="MIG" if joules is None else "",
    )


def joules(meter: AgentMeter) -> float | str:
    reading = meter.read()
    return reading.joules_total if isinstance(reading, Reading) else reading.reason


def test_a_whole_card_s_joules_are_as_the_card_counts_them() -> None:
    meter = AgentMeter(Told(told(500.0), told(560.0), AgentGone("gone"), told(900.0, "second")))
    assert (meter.opening_j, meter.device, meter.source) == (500.0, A, "nvml")
    assert [joules(meter) for _ in range(3)] == [560.0, "gone", 900.0]


def test_a_share_s_count_that_begins_anew_is_gone_on_with() -> None:
    shares = [told(j, epoch, "nvml-estimate") for j, epoch in ((0, "a"), (70, "a"), (100, "b"), (130, "b"))]
    meter = AgentMeter(Told(*shares))
    assert [joules(meter) for _ in range(3)] == [70.0, 70.0, 100.0]
    assert (meter.source, meter.device) == ("nvml-estimate", f"{A}/pod:x")


def test_a_share_s_count_is_not_gone_on_with_by_the_card_s() -> None:
    share, card = "nvml-estimate", "nvml"
    counts = [(70, share), (5e8, card), (5e8 + 30, card), (90, share), (95, share)]
    meter = AgentMeter(Told(*(told(j, "one", source) for j, source in counts)))
    assert [joules(meter) for _ in range(4)] == [70.0, 100.0, 100.0, 105.0]


def test_without_the_agent_watts_are_unknown_from_the_start() -> None:
    meter = AgentMeter(Told(AgentGone("gone"), told(None), told(10.0)))
    assert meter.opening_j is None
    assert meter.device == ""
    assert joules(meter) == "node agent: MIG"
    assert joules(meter) == 10.0


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(0, 1e6),
            st.sampled_from("ab"),
            st.booleans(),
            st.floats(0, 5),
            st.floats(0, 3),
        ),
        max_size=20,
    )
)
def test_joules_and_time_never_go_back(steps: list[tuple[float | None, str, bool, float, float]]) -> None:
    now_s = 0.0
    answers: list[ReadReply | GpuError] = [AgentGone("not yet")]
    answers += [
        told(j, epoch, "nvml" if whole else "nvml-estimate", age_s) for j, epoch, whole, age_s, _ in steps
    ]
    meter = AgentMeter(Told(*answers), lambda: now_s)
    last: Reading | None = None
    for *_, wait_s in steps:
        now_s += wait_s
        reading = meter.read()
        if isinstance(reading, Unknown):
            continue
        if last is not None:
            assert reading.joules_total >= last.joules_total
            assert reading.at_s >= last.at_s
        last = reading


def test_the_agent_s_meter_needs_the_agent() -> None:
    with pytest.raises(UsageError, match="meter = 'agent': needs node-agent, its socket"):
        ServeSettings.of_flags(meter="agent")
    with pytest.raises(UsageError, match="node-agent: of no use without gpu-clocks or meter = 'agent'"):
        ServeSettings.of_flags(node_agent="/run/x.sock")
    settings = ServeSettings.of_flags(meter="agent", node_agent="/run/x.sock", node="node-1")
    assert (settings.node_agent, settings.node) == (Path("/run/x.sock"), "node-1")
    with pytest.raises(UsageError, match="node = 'a b'"):
        ServeSettings.of_flags(node="a b")
