"""Who asks, and whether RBAC lets them, by the roles and bindings that lie in the store.

Tokens are handed out here. Left out: client certificates, impersonation, the guard against escalation.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.kube_api.answers import Refusal, forbidden, forbidden_path, unauthorized
from tests.kube_api.kinds import Kinds
from tests.kube_api.store import Store

ADMIN = "kubernetes-admin"
_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
_FOR_ALL_USERS = (*_OPEN_PATHS, "/api", "/apis", "/openapi")


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...]

    @property
    def service_account(self) -> tuple[str, str] | None:
        """Namespace and name."""
        parts = self.name.split(":")
        return (parts[2], parts[3]) if parts[:2] == ["system", "serviceaccount"] else None


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def service_account(namespace: str, name: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"system:serviceaccount:{namespace}:{name}", groups)


@dataclass(frozen=True)
class Attempt:
    """What is asked for, in RBAC's terms."""

    verb: str
    group: str
    plural: str
    subresource: str | None
    namespace: str | None
    name: str | None

    @property
    def resource(self) -> str:
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural


class Access:
    def __init__(self, store: Store, kinds: Kinds) -> None:
        self._store = store
        self._kinds = kinds
        self._users: dict[str, User] = {}

    def token(self, user: User) -> str:
        token = secrets.token_urlsafe(24)
        self._users[token] = user
        return token

    def user(self, authorization: str | None) -> User:
        if authorization is None:
            return ANONYMOUS
        user = self._users.get(_token(authorization))
        if user is None or not self._exists(user):
            raise unauthorized()
        return user

    def check(self, user: User, attempt: Attempt) -> None:
        if self.allowed(user, attempt):
            return
        raise self._refusal(user, attempt)

    def check_path(self, user: User, verb: str, path: str) -> None:
        everyone = _OPEN_PATHS if user == ANONYMOUS else _FOR_ALL_USERS
        if "system:masters" not in user.groups and not path.startswith(everyone):
            raise forbidden_path(user.name, verb, path)

    def allowed(self, user: User, attempt: Attempt) -> bool:
        if "system:masters" in user.groups:
            return True
        if attempt.group in ("authorization.k8s.io", "authentication.k8s.io") and user != ANONYMOUS:
            return attempt.plural.startswith("selfsubject")
        return any(_grants(rule, attempt) for rule in self._rules_of(user, attempt.namespace))

    def _exists(self, user: User) -> bool:
        if user.service_account is None:
            return True
        kind = self._kinds.find("", "v1", "serviceaccounts")
        return kind is not None and self._store.peek(kind, *user.service_account) is not None

    def _refusal(self, user: User, attempt: Attempt) -> Refusal:
        where = f'in the namespace "{attempt.namespace}"' if attempt.namespace else "at the cluster scope"
        why = (
            f'User "{user.name}" cannot {attempt.verb} resource "{attempt.resource}" '
            f'in API group "{attempt.group}" {where}'
        )
        return forbidden(attempt.plural, attempt.group, attempt.name, why)

    def _rules_of(self, user: User, namespace: str | None) -> Iterator[Mapping[str, Any]]:
        for binding in self._objects("clusterrolebindings"):
            if _binds(binding, user):
                yield from self._rules(binding, None)
        if namespace:
            for binding in self._objects("rolebindings", namespace):
                if _binds(binding, user):
                    yield from self._rules(binding, namespace)

    def _rules(self, binding: Mapping[str, Any], namespace: str | None) -> Iterator[Mapping[str, Any]]:
        reference = binding["roleRef"]
        plural, where = ("roles", namespace) if reference["kind"] == "Role" else ("clusterroles", None)
        for role in self._objects(plural, where):
            if role["metadata"]["name"] == reference["name"]:
                yield from role.get("rules") or ()

    def _objects(self, plural: str, namespace: str | None = None) -> list[dict[str, Any]]:
        kind = self._kinds.find("rbac.authorization.k8s.io", "v1", plural)
        return [] if kind is None else self._store.look(kind, namespace)


def _binds(binding: Mapping[str, Any], user: User) -> bool:
    for subject in binding.get("subjects") or ():
        if subject["kind"] == "ServiceAccount":
            where = subject.get("namespace", binding["metadata"].get("namespace"))
            if user.service_account == (where, subject["name"]):
                return True
        elif (subject["kind"] == "User" and subject["name"] == user.name) or (
            subject["kind"] == "Group" and subject["name"] in user.groups
        ):
            return True
    return False


def _grants(rule: Mapping[str, Any], attempt: Attempt) -> bool:
    names = rule.get("resourceNames")
    resources = rule.get("resources", ())
    return (
        bool({attempt.verb, "*"} & set(rule.get("verbs", ())))
        and bool({attempt.group, "*"} & set(rule.get("apiGroups", ())))
        and bool({attempt.resource, "*", f"*/{attempt.subresource}"} & set(resources))
        and (not names or attempt.name in names)
    )


def _token(authorization: str) -> str:
    """The scheme's name may be written in any case."""
    scheme, _, token = authorization.partition(" ")
    return token if scheme.lower() == "bearer" else ""
