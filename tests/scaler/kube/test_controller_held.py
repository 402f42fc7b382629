"""What the controller does, and leaves, where something outside keeps it from scaling, or has stopped it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from scaler.kube.crd import custom_resource_definition
from scaler.kube.events import Events
from scaler.kube.leading import Leading
from scaler.kube.permissions import AUTOSCALERS, SCALED_OBJECTS
from tests.scaler.kube.controlled import NAMESPACE, Scenario, play, policy, workload
from tests.scaler.kube.stories import BUSY_RPS, FLEET, Play, autoscaler, ready, refused, role


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    def at(story: Callable[[Scenario], Coroutine[Any, Any, None]]) -> None:
        play(tmp_path, monkeypatch, story)

    return at


def scale_writes(case: Scenario) -> list[Any]:
    return [one.body["spec"] for one in case.api.writes() if one.resource.endswith("/scale")]


@pytest.mark.parametrize("kind", [AUTOSCALERS.name, SCALED_OBJECTS.name])
def test_without_a_right_to_see_autoscalers_none_is_fought(stage: Play, kind: str) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy(replicas={"min": 2, "max": 6}))
        async with case.control(**role(case, without=kind)):
            await case.until(refused(case, "AutoscalersUnseen"), "said")
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await asyncio.sleep(60)
            assert scale_writes(case) == []
            (condition,) = [one for one in case.status()["conditions"] if one["type"] == "Ready"]
            assert f'cannot list resource "{kind}"' in condition["message"]
            role(case)
            await case.until(lambda: case.replicas() > 3, "granted, and alone with it")

    stage(story)


def test_autoscalers_that_were_never_listed_are_not_fought_and_an_outage_keeps_what_was(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        lists: dict[str, Any] = {"verbs": ("list", "watch"), "resource": AUTOSCALERS.name, "times": None}
        case.api.apply(workload(replicas=2), autoscaler(), policy(replicas={"min": 2, "max": 6}))
        case.api.faults.answer(500, **lists)
        async with case.control():
            await case.until(refused(case, "AutoscalersUnseen"), "said")
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await asyncio.sleep(60)
            assert scale_writes(case) == []
            case.api.faults.clear()
            await case.until(refused(case, "OtherAutoscaler"), "seen")
            case.api.delete("horizontalpodautoscalers", NAMESPACE, "busy")
            await case.until(lambda: case.replicas() > 3, "alone with it")
            case.api.faults.answer(500, **lists)
            case.api.cut_watches("torn")
            case.hub.fleets[FLEET].rate_rps = 20.0
            await case.until(lambda: case.replicas() == 2, "what was listed once is believed")
            assert ready(case)

    stage(story)


def test_replicas_that_can_not_be_moved_are_told_their_point_all_the_same(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), autoscaler(), policy())
        async with case.control():
            await case.until(refused(case, "OtherAutoscaler"), "an HPA")
            await case.until(lambda: len(case.hub.fleets[FLEET].points) > 0, "points are set")
            assert scale_writes(case) == []

    stage(story)


def test_a_scale_that_can_not_be_written_for_long_is_said_and_over_when_it_is_over(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy())
        async with case.control():
            await case.until(lambda: ready(case), "ready")
            case.api.faults.answer(
                503, verbs="update", resource="deployments", subresource="scale", times=None
            )
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(refused(case, "ScaleUnavailable"), "said")
            await case.until(lambda: "ScaleUnavailable" in case.events(), "told")
            assert case.replicas() == 2
            assert case.status()["decision"]["desired"] > 2
            case.api.faults.clear()
            await case.until(lambda: ready(case) and case.replicas() > 3, "over")
            assert "ScaledUp" in case.events()

    stage(story)


def test_an_event_that_was_refused_once_is_told_later(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy())
        async with case.control():
            await case.until(lambda: ready(case), "ready")
            case.api.faults.answer(500, verbs="create", resource="events", times=2)
            case.api.apply(autoscaler())
            await case.until(lambda: "OtherAutoscaler" in case.events(), "told")
            assert case.events().count("OtherAutoscaler") == 1

    stage(story)


def test_policies_whose_definition_was_taken_away_unseen_move_nothing_for_long(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy())
        async with case.control():
            await case.until(lambda: ready(case), "ready")
            case.api.faults.answer(503, verbs=("list", "watch"), resource="powerpolicies", times=None)
            case.api.cut_watches("torn")
            await asyncio.sleep(2)
            case.api.delete("customresourcedefinitions", None, "powerpolicies.minwatt.dev")
            case.api.faults.clear()
            await asyncio.sleep(200)
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await asyncio.sleep(60)
            assert scale_writes(case) == []
            case.api.apply(custom_resource_definition())
            case.api.apply(policy())
            await case.until(lambda: case.replicas() > 3, "a new one")

    stage(story)


def test_a_mistake_over_one_event_or_all_statuses_ends_the_telling_of_no_other(
    stage: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> Any:
        raise TypeError("a mistake in the program")

    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy())
        async with case.control():
            await case.until(lambda: ready(case), "ready")
            with monkeypatch.context() as patched:
                patched.setattr(Events, "_event", failing)
                patched.setattr(Leading, "moments", failing)
                case.hub.fleets[FLEET].rate_rps = BUSY_RPS
                await case.until(lambda: case.replicas() > 3, "it scales all the same")
                await asyncio.sleep(5.0)
            case.api.apply(autoscaler())
            await case.until(refused(case, "OtherAutoscaler"), "statuses are written again")
            await case.until(lambda: "OtherAutoscaler" in case.events(), "and Events")

    stage(story)


def test_the_last_good_policy_outlives_every_copy_of_the_controller(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy(replicas={"min": 1, "max": 3}))
        async with case.control("one"):
            await case.until(lambda: ready(case), "ready")
            case.api.apply(policy(model="unheard", replicas={"min": 1, "max": 6}))
            await case.until(refused(case, "NoProfile"), "refused")
        async with case.control("two"):
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() == 3, "by the last good one")
            await case.until(lambda: case.status()["fence"]["transitions"] == 1, "the second's")
            assert case.status()["generationInForce"] == 1
            assert case.condition("Ready") == ("False", "NoProfile")
            case.api.apply(policy(replicas={"min": 5, "max": 6}))
            await case.until(lambda: ready(case) and case.replicas() >= 5, "mended")
            assert case.status()["lastGood"]["generation"] == 3

    stage(story)
