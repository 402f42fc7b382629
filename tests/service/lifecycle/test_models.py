"""The registry's laws: a request ends with the model it began with; a model goes once, never while in use."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import grpc
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.lifecycle.models import Models
from service.statuses import Refusal

NAMES = ("first", "second", "third")


@dataclass(eq=False)
class Model:
    name: str


class Traffic(RuleBasedStateMachine):
    """Requests come and end, models are put in place and removed, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[Model] = []
        self.made = [Model("first")]
        self.models = Models(self.made[0], self.gone.append)
        self.resident = {"first": self.made[0]}
        self.open: list[tuple[Model, ExitStack]] = []

    @rule(name=st.sampled_from(("", *NAMES)))
    def begin(self, name: str) -> None:
        request = ExitStack()
        expected = self.resident.get(name or "first")
        if expected is None:
            with pytest.raises(Refusal) as unknown:
                request.enter_context(self.models.using(name))
            assert unknown.value.code is grpc.StatusCode.NOT_FOUND
            assert all(there in unknown.value.message for there in self.resident)
        else:
            found = request.enter_context(self.models.using(name))
            assert found is expected
            self.open.append((found, request))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), fails=st.booleans())
    def end(self, data: st.DataObject, fails: bool) -> None:
        model, request = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        assert model not in self.gone, "let go while it answered"
        error = RuntimeError("the batch broke") if fails else None
        request.__exit__(None if error is None else type(error), error, None)

    @rule(name=st.sampled_from(NAMES))
    def put(self, name: str) -> None:
        model = Model(name)
        self.made.append(model)
        self.models.put(model)
        self.resident[name] = model

    @rule(name=st.sampled_from(NAMES))
    def put_again(self, name: str) -> None:
        if name in self.resident:
            self.models.put(self.resident[name])

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        if name == "first":
            with pytest.raises(ValueError, match="default"):
                self.models.remove(name)
        elif name in self.resident:
            self.models.remove(name)
            del self.resident[name]
        else:
            with pytest.raises(Refusal):
                self.models.remove(name)

    @invariant()
    def each_model_is_resident_or_used_or_gone_once(self) -> None:
        used = {id(model) for model, _ in self.open}
        for model in self.made:
            needed = self.resident.get(model.name) is model or id(model) in used
            assert self.gone.count(model) == (0 if needed else 1)
        assert self.models.by_name == self.resident
        assert self.models.default is self.resident["first"]
        for model in self.resident.values():
            assert self.models.users(model) == sum(one is model for one, _ in self.open)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_snapshot_stays_what_it_was() -> None:
    models = Models(Model("first"), lambda model: None)
    before = models.by_name
    models.put(Model("second"))
    assert list(before) == ["first"]
    assert list(models.by_name) == ["first", "second"]
