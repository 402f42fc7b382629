"""Lists in pages: where one ends is in the token that asks for the next."""

from __future__ import annotations

import base64
import json

from tests.kube_api.answers import bad_request
from tests.kube_api.store import Object


def place(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace") or "", item["metadata"]["name"]


def continue_token(version: int, last: tuple[str, str]) -> str:
    said = {"v": "meta.k8s.io/v1", "rv": version, "start": "/".join(filter(None, last)) + "\u0000"}
    return base64.urlsafe_b64encode(json.dumps(said, separators=(",", ":")).encode()).decode().rstrip("=")


def continued(token: str | None) -> tuple[tuple[str, str] | None, int]:
    if not token:
        return None, 0
    try:
        said = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = said["start"].rstrip("\u0000").rpartition("/")
        return (namespace, name), int(said["rv"])
    except (ValueError, KeyError):
        raise bad_request("continue key is not valid") from None
