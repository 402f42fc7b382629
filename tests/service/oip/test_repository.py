"""Models change by Triton's calls: for admins only, under the names that clients know."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from service.calls import Call
from service.oip import open_inference_pb2 as pb
from service.oip.models import Catalog
from service.oip.repository import Repository
from service.statuses import Refusal, unknown_model
from tests.service.oip.residents import described, only
from tests.tiny_model import write_tiny_model


@dataclass
class Changes:
    """Remembers what it was asked for; `first` is loaded, `second.b` isn't, `bad` is refused."""

    names: Sequence[str] = ("first", "second.b", "bad")
    unloaded: Sequence[str] = ("second.b",)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    async def load(self, name: str, variant: str | None = None) -> None:
        if name not in self.names:
            raise unknown_model(name, self.names)
        if name == "bad":
            raise UsageError("/models/bad: wrong or damaged file")
        self.asked.append(("load", name, variant or ""))

    async def unload(self, name: str) -> None:
        if name not in self.names:
            raise unknown_model(name, self.names)
        self.asked.append(("unload", name))


class Caller:
    timeout_s = None
    peer_identity = None

    def metadata(self, key: str) -> str | None:
        return None


def admits(_call: Call) -> None:
    pass


Request = pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest


def call(repository: Repository, request: Request) -> bytes:
    loads = isinstance(request, pb.RepositoryModelLoadRequest)
    method = repository.method(type(request), repository.load if loads else repository.unload, 4096)
    return asyncio.run(_awaited(method(request.SerializeToString(), Caller())))


async def _awaited(reply):  # type: ignore[no-untyped-def]
    return await reply


@pytest.mark.parametrize(
    ("asked", "own"),
    [("first", "first"), ("first.intent", "first"), ("second.b", "second.b"), ("second.b.ner", "second.b")],
)
def test_a_model_goes_by_its_own_name_and_by_those_of_its_tasks(asked: str, own: str) -> None:
    changes = Changes()
    repository = Repository(changes, admits)
    load = pb.RepositoryModelLoadRequest(model_name=asked)
    assert call(repository, load) == b""
    load.parameters["variant"].string_param = "fp16"
    call(repository, load)
    unload = pb.RepositoryModelUnloadRequest(model_name=asked)
    unload.parameters["unload_dependents"].bool_param = False  # as Triton's client sends it
    call(repository, unload)
    assert changes.asked == [("load", own, ""), ("load", own, "fp16"), ("unload", own)]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (pb.RepositoryModelLoadRequest(model_name="third"), "NOT_FOUND", "available: first"),
        (pb.RepositoryModelLoadRequest(model_name="third.intent"), "NOT_FOUND", "'third.intent'"),
        (pb.RepositoryModelLoadRequest(), "INVALID_ARGUMENT", "model_name: is empty"),
        (pb.RepositoryModelLoadRequest(model_name="bad"), "FAILED_PRECONDITION", "wrong or damaged file"),
        (
            pb.RepositoryModelLoadRequest(model_name="first", repository_name="a"),
            "UNIMPLEMENTED",
            "repository_name",
        ),
        (
            pb.RepositoryModelLoadRequest(
                model_name="first", parameters={"config": pb.ModelRepositoryParameter(string_param="{}")}
            ),
            "INVALID_ARGUMENT",
            r"parameters\['config'\]: allowed: variant \(string_param\)",
        ),
        (
            pb.RepositoryModelLoadRequest(
                model_name="first", parameters={"variant": pb.ModelRepositoryParameter(int64_param=8)}
            ),
            "INVALID_ARGUMENT",
            "variant",
        ),
        (pb.RepositoryModelUnloadRequest(model_name="third"), "NOT_FOUND", "available: first"),
    ],
)
def test_what_can_not_be_changed_is_said(request_: Request, code: str, words: str) -> None:
    changes = Changes()
    with pytest.raises(Refusal, match=words) as refused:
        call(Repository(changes, admits), request_)
    assert refused.value.code.name == code
    assert changes.asked == []


@given(st.binary(max_size=60))
def test_nobody_else_changes_anything_whatever_is_sent(frame: bytes) -> None:
    changes = Changes()

    def refuses(_call: Call) -> None:
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "invalid", "no admin")

    repository = Repository(changes, refuses)
    method = repository.method(pb.RepositoryModelLoadRequest, repository.load, 4096)
    with pytest.raises(Refusal, match="no admin"):
        asyncio.run(_awaited(method(frame, Caller())))
    assert changes.asked == []


def test_the_catalog_follows_what_is_resident(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "first", name="first")
    models = only(path)
    catalog = Catalog(models)
    assert list(catalog.models) == ["first.intent", "first.entity"]
    models.put(described(write_tiny_model(tmp_path / "second", name="second")))
    assert list(catalog.models) == ["first.intent", "first.entity", "second.intent", "second.entity"]
    write_tiny_model(path, name="first", version="2")
    models.put(described(path, "fp16"))
    assert catalog.get("first.intent", "2").variant == "fp16"
    with pytest.raises(Refusal, match="version 2"):
        catalog.get("first.intent", "1")
    models.remove("second")
    assert catalog.find("second.intent", "") is None
