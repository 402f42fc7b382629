"""What must hold of every request log, read line by line in the order in which writes took effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.kube_api.request_log import Served

_SYSTEM = "system:serviceaccount:"


def controllers_writes(log: Iterable[Served]) -> list[Served]:
    """Those that took effect, of service accounts: the administrator is the test."""
    return [each for each in log if each.wrote and each.user.startswith(_SYSTEM)]


def assert_each_write_names_its_version(log: Iterable[Served]) -> None:
    """Nothing is overwritten unseen. New objects have no version, and an Event's series is only added to."""
    for each in controllers_writes(log):
        if each.verb != "create" and not each.resource.startswith("events"):
            assert each.version_given, f"no resourceVersion: {line(each)}"


def assert_only_the_leader_wrote(log: Iterable[Served]) -> None:
    """Between one change of the lease and the next every write is its holder's."""
    leader = ""
    for each in controllers_writes(log):
        if each.resource.startswith("leases"):
            leader = each.user if (each.body.get("spec") or {}).get("holderIdentity") else leader
        elif each.resource.startswith("events"):
            continue  # the last words of one who leaves say what was done while it led
        else:
            assert each.user == leader, f"not by the leader, {leader or 'nobody'}: {line(each)}"


def assert_never_below(log: Iterable[Served], least: int) -> None:
    for each in controllers_writes(log):
        if each.resource.endswith("/scale"):
            assert each.body["spec"].get("replicas", 0) >= least, line(each)


def assert_laws(log: Sequence[Served], least: int) -> None:
    assert_each_write_names_its_version(log)
    assert_only_the_leader_wrote(log)
    assert_never_below(log, least)


def line(each: Served) -> str:
    who = each.user.rpartition(":")[2]
    what = f"{each.verb} {each.resource} {each.namespace or ''}/{each.name or ''}"
    if each.resource.endswith("/scale"):
        what += f" → {each.body['spec'].get('replicas', 0)}"
    if each.resource.startswith("events") and each.verb == "create":
        what = f"{each.verb} {each.resource} {each.body.get('reason')}"
    return f"{who}: {what}"
