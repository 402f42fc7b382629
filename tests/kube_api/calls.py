"""What one request asks, as the verbs see it, and what they answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.kube_api.access import User
from tests.kube_api.answers import bad_request, method_not_allowed, unsupported_media_type
from tests.kube_api.kinds import Kind
from tests.kube_api.selectors import fields_match, labels_match
from tests.kube_api.store import Object


@dataclass(frozen=True)
class Call:
    """One request to a resource, as the verbs see it."""

    verb: str
    kind: Kind
    subresource: str | None
    namespace: str | None
    name: str | None
    params: Mapping[str, str]
    body: Any
    content_type: str
    user: User
    manager: str

    @property
    def dry(self) -> bool:
        return self.params.get("dryRun") == "All"


@dataclass(frozen=True)
class Answer:
    code: int
    body: Object
    warnings: tuple[str, ...] = field(default=())


def fitting(params: Mapping[str, str]) -> Callable[[Mapping[str, Any]], bool]:
    labels = labels_match(params.get("labelSelector", ""))
    fields = fields_match(params.get("fieldSelector", ""))
    return lambda item: labels(item) and fields(item)


def parsed_body(raw: bytes, content_type: str) -> Any:
    if not raw:
        return None
    if "protobuf" in content_type:
        raise unsupported_media_type(("application/json", "application/yaml"))
    try:
        return yaml.safe_load(raw) if "yaml" in content_type else json.loads(raw)
    except (ValueError, yaml.YAMLError) as problem:
        raise bad_request(f"the object provided is unrecognized (must be of type json): {problem}") from None


def named(call: Call) -> str:
    if call.name is None:
        raise method_not_allowed()
    return call.name
