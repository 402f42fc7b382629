"""What the API server says when it refuses: `Status` objects in the words of the real one.

The wording is that of ../shared/kube-recordings where a recording has it, and of Kubernetes' own
`api/errors` package otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STALE = "the object has been modified; please apply your changes to the latest version and try again"


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong. `blocking` ones keep CEL rules from being looked at."""

    field: str
    reason: str
    message: str

    @property
    def blocking(self) -> bool:
        return self.reason != "FieldValueInvalid" and self.reason != "FieldValueNotSupported"


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of the stand-in
    """An answer other than success. `details` is left out when empty, as by the real server.

    Without a `reason` it is no Status, but the message as plain text.
    """

    code: int
    reason: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def status(self) -> dict[str, Any]:
        details = {"details": dict(self.details)} if self.details else {}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            **details,
            "code": self.code,
        }


def qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def _of(plural: str, group: str, name: str | None) -> dict[str, Any]:
    details = {"name": name or "", "group": group, "kind": plural}
    return {key: value for key, value in details.items() if value}


def not_found(plural: str, group: str, name: str) -> Refusal:
    message = f'{qualified(plural, group)} "{name}" not found'
    return Refusal(404, "NotFound", message, _of(plural, group, name))


def no_such_path() -> Refusal:
    """Not of an API at all, or of one that is not installed: the server says so in plain text."""
    return Refusal(404, "", "404 page not found")


def already_exists(plural: str, group: str, name: str) -> Refusal:
    message = f'{qualified(plural, group)} "{name}" already exists'
    return Refusal(409, "AlreadyExists", message, _of(plural, group, name))


def conflict(plural: str, group: str, name: str, why: str = STALE) -> Refusal:
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return Refusal(409, "Conflict", message, _of(plural, group, name))


def forbidden(plural: str, group: str, name: str | None, why: str) -> Refusal:
    what = qualified(plural, group) + (f' "{name}"' if name else "")
    return Refusal(403, "Forbidden", f"{what} is forbidden: {why}", _of(plural, group, name))


def forbidden_path(user: str, verb: str, path: str) -> Refusal:
    message = f'forbidden: User "{user}" cannot {verb} path "{path}"'
    return Refusal(403, "Forbidden", message, {})


def unauthorized() -> Refusal:
    return Refusal(401, "Unauthorized", "Unauthorized")


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def cannot_be_handled(kind: str, version: str, why: str) -> Refusal:
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')


def method_not_allowed() -> Refusal:
    return Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(accepted: Sequence[str]) -> Refusal:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return Refusal(415, "UnsupportedMediaType", message + ", ".join(accepted))


def expired(message: str) -> Refusal:
    return Refusal(410, "Expired", message)


def internal_error(why: str) -> Refusal:
    details = {"causes": [{"message": why}]}
    return Refusal(500, "InternalError", f"Internal error occurred: {why}", details)


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> Refusal:
    """422. One cause stands alone in the message, several stand in brackets."""
    said = [f"{cause.field}: {cause.message}" for cause in causes]
    listed = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    qualified_kind = f"{kind}.{group}" if group else kind
    details: dict[str, Any] = {"name": name, "group": group, "kind": kind}
    details = {key: value for key, value in details.items() if value}
    details["causes"] = [
        {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes
    ]
    return Refusal(422, "Invalid", f'{qualified_kind} "{name}" is invalid: {listed}', details)


def required(path: str, why: str = "") -> Cause:
    return Cause(path, "FieldValueRequired", "Required value" + (f": {why}" if why else ""))


def wrong(path: str, value: object, why: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {shown(value)}: {why}")


def shown(value: object) -> str:
    """As Go's %v and %q print a field's value in a validation message."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if value is None:
        return "null"
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return '"' + ("object" if isinstance(value, Mapping) else "array") + '"'
