"""Who is calling, and what that one may."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import yaml

from minwatt.v1.errors import UsageError
from service import changed_files
from service.access import Access
from service.keys import StoredKey, new_key
from service.statuses import Refusal
from service.tenants import _Anyone, _Quota, _Tenant, read_tenants


@dataclass
class FakeCall:
    shown: Mapping[str, str] = field(default_factory=dict)
    peer_identity: str | None = None
    timeout_s: float | None = None

    def metadata(self, key: str) -> str | None:
        return self.shown.get(key)


def write(path: Path, *tenants: dict[str, object], default: object = None) -> Path:
    document: dict[str, object] = {"tenants": list(tenants)}
    if default is not None:
        document["default"] = default
    path.write_text(yaml.safe_dump(document))
    return path


def entry(stored: StoredKey) -> dict[str, str]:
    return {"id": stored.id, "sha256": stored.sha256.hex()}


@pytest.fixture
def key() -> tuple[str, StoredKey]:
    return new_key()


@pytest.fixture
def file(tmp_path: Path, key: tuple[str, StoredKey]) -> Path:
    search = {"name": "search", "keys": [entry(key[1])], "weight": 3, "roles": ["infer", "admin"]}
    mail = {"name": "mail", "identities": ["spiffe://acme/mail"], "quota": {"requestsPerSecond": 5}}
    return write(tmp_path / "tenants.yaml", search, mail)


def refused(access: Access, call: FakeCall | None, role: str = "infer") -> Refusal:
    with pytest.raises(Refusal) as raised:
        access.caller(call, role)  # type: ignore[arg-type]
    return raised.value


def test_a_key_names_its_tenant_however_it_is_shown(file: Path, key: tuple[str, StoredKey]) -> None:
    access = Access(read_tenants(file))
    for shown in (
        {"authorization": f"Bearer {key[0]}"},
        {"authorization": f"bearer {key[0]}"},
        {"x-api-key": key[0]},
    ):
        caller = access.caller(FakeCall(shown), "admin")
        assert (caller.tenant.name, caller.tenant.weight) == ("search", 3)
    assert access.caller(FakeCall(peer_identity="spiffe://acme/mail"), "infer").tenant.name == "mail"


def test_an_unknown_key_is_unauthenticated_whatever_the_certificate_says(
    file: Path, key: tuple[str, StoredKey]
) -> None:
    access = Access(read_tenants(file))
    same_id = key[0][:-1] + ("A" if key[0][-1] != "A" else "B")
    for shown in (new_key()[0], same_id, "word", "", "mw_é"):
        for name, value in (("x-api-key", shown), ("authorization", f"Bearer {shown}")):
            refusal = refused(access, FakeCall({name: value}, "spiffe://acme/mail"))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "identity")
            assert not shown or shown not in refusal.message
    assert refused(access, FakeCall({"authorization": f"Basic {key[0]}"})).code.name == "UNAUTHENTICATED"


def test_who_shows_nothing_is_the_default_tenant_or_refused(tmp_path: Path) -> None:
    closed = Access(read_tenants(write(tmp_path / "closed.yaml")))
    for nothing in (None, FakeCall(), FakeCall(peer_identity="spiffe://elsewhere")):
        assert refused(closed, nothing).code is grpc.StatusCode.UNAUTHENTICATED
        opened = Access(read_tenants(write(tmp_path / "open.yaml", default={"weight": 2})))
        assert opened.caller(nothing, "infer").tenant.name == "anonymous"
        assert Access().caller(nothing, "infer").tenant.name == "anonymous"


def test_a_role_that_is_missing_is_denied(file: Path) -> None:
    mail = FakeCall(peer_identity="spiffe://acme/mail")
    assert refused(Access(read_tenants(file)), mail, "admin").code is grpc.StatusCode.PERMISSION_DENIED
    assert refused(Access(), None, "admin").code is grpc.StatusCode.PERMISSION_DENIED


def test_whom_a_front_end_found_has_the_role_by_what_is_in_force_here(tmp_path: Path) -> None:
    roles = {"name": "mail", "identities": ["spiffe://acme/mail"]}
    access = Access(read_tenants(write(tmp_path / "before.yaml", roles)))
    assert access.known("mail").tenant.name == "mail"
    access.replace(read_tenants(write(tmp_path / "after.yaml", roles | {"roles": ["admin"]})))
    with pytest.raises(Refusal) as raised:
        access.known("mail")
    assert raised.value.code is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(Refusal) as raised:
        access.known("nobody")
    assert raised.value.code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tenants: [", "not YAML at line 1"),
        ('tenants:\n- weight: !!int ""', "not YAML at line 2"),
        ("tenants: []\n---\nmw_secret: 1", "several YAML documents, the second begins at line 2"),
        ("- a", "a YAML mapping with tenants and default is expected"),
        ("tenants: [{name: A}]", "tenants.0.name = 'A'"),
        ("tenants: [{name: a}, {name: a}]", "name 'a' is there twice"),
        ("tenants: []\ndefault: {}\ntenants: []", "field 'tenants' is there twice, again at line 3"),
        ("tenants:\n- name: a\n  weight: 2\n  weight: 3", "field 'weight' is there twice, again at line 4"),
        ("default:\n  quota: {burst: 1s, burst: 2s}", "field 'burst' is there twice, again at line 2"),
        ("tenants: [{keys: {mw_secret: 1,\n mw_secret: 2}}]", "a field that is there twice at line 2"),
        ("tenants: [{name: anonymous}]", "name 'anonymous' is that of `default`"),
        ("tenants: [{name: a, weight: 0}]", "tenants.0.weight = 0"),
        (
            "tenants: [{name: a, wait: 1}]",
            "tenants.0.wait: unknown field; allowed: roles, weight, quota, name,",
        ),
        ("tenant: []", "tenant: unknown field; allowed: tenants, default"),
        ("default: {name: a}", "default.name: unknown field; allowed: roles, weight, quota"),
        (
            "default: {quota: {rps: 1}}",
            "default.quota.rps: unknown field; allowed: requestsPerSecond, tokens",
        ),
        ("tenants: [{name: a, roles: [root]}]", "tenants.0.roles.0 = 'root'"),
        ("tenants: [{name: a, quota: {requestsPerSecond: .nan}}]", "tenants.0.quota.requestsPerSecond"),
        ("tenants: [{name: a, identities: [x]}, {name: b, identities: [x]}]", "identity 'x' is there twice"),
        ("tenants: [{name: a, keys: [mw_secret]}]", "an entry {id, sha256} as `minwatt key new` prints it"),
    ],
)
def test_a_bad_file_is_one_line_without_secrets(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as raised:
        read_tenants(path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "mw_secret" not in str(raised.value)


def test_who_stays_keeps_what_it_has_used_and_labels_are_those_of_the_file(
    file: Path, tmp_path: Path, key: tuple[str, StoredKey]
) -> None:
    access = Access(read_tenants(file))
    call = FakeCall({"x-api-key": key[0]})
    access.caller(call, "infer").usage.enter(3, 10)
    access.replace(read_tenants(write(file, {"name": "search", "keys": [entry(key[1])], "weight": 7})))
    caller = access.caller(call, "infer")
    assert (caller.usage.in_flight, caller.tenant.weight) == (1, 7)
    assert [one.tenant.name for one in access.callers] == ["search"]
    access.replace(read_tenants(write(file, {"name": "search"})))
    assert refused(access, call).code is grpc.StatusCode.UNAUTHENTICATED


def test_the_page_s_example_is_a_file_of_tenants(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tenants.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "tenants.yaml").write_text(example)
    directory = read_tenants(tmp_path / "tenants.yaml")
    assert [tenant.name for tenant in directory.tenants] == ["search", "deploys"]
    for schema in (_Tenant, _Anyone, _Quota):
        for name, one in schema.model_fields.items():
            assert (one.alias or name) in page


async def test_a_changed_file_is_read_and_a_bad_one_is_not_followed(
    file: Path,
    key: tuple[str, StoredKey],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(changed_files, "LOOK_S", 0.001)
    caplog.set_level(logging.INFO)
    access = Access(read_tenants(file))
    call = FakeCall({"x-api-key": key[0]})
    reading = asyncio.create_task(access.keep_reading(file))
    try:
        for text, name, logged in (
            ("tenants: [", "search", "the tenants read before stay in force"),
            (
                yaml.safe_dump({"tenants": [{"name": "found", "keys": [entry(key[1])]}]}),
                "found",
                "1 tenants are in force",
            ),
        ):
            fresh = file.with_suffix(".new")
            fresh.write_text(text)
            os.replace(fresh, file)
            async with asyncio.timeout(30):
                while logged not in caplog.text:  # noqa: ASYNC110 - the log has no event
                    await asyncio.sleep(0.005)
            assert access.caller(call, "infer").tenant.name == name
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    assert key[0] not in caplog.text


async def test_a_file_that_changed_while_the_model_was_loaded_is_read_again(
    file: Path, key: tuple[str, StoredKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed_files, "LOOK_S", 0.001)
    access = Access(read_tenants(file))
    write(file, {"name": "found", "keys": [entry(key[1])]})
    reading = asyncio.create_task(access.keep_reading(file))
    try:
        async with asyncio.timeout(30):
            call = FakeCall({"x-api-key": key[0]})
            while access.caller(call, "infer").tenant.name != "found":  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.005)
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
