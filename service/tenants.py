"""The file of tenants: who they are, what they may do and how much.

    tenants:
      - name: search
        keys:
          - {id: 3f9a2c1b5d6e7f80, sha256: "…"}      # as `minwatt key new` prints it
        identities: [spiffe://acme.example/search]    # of mTLS certificates
        roles: [infer]
        weight: 3
        quota: {requestsPerSecond: 200, tokensPerSecond: 20000, burst: 2s, maxInFlight: 64}
    default:                                          # of all others; without it they are refused
      quota: {requestsPerSecond: 10}

Owns the schema. `access` reads it again when it changes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from minwatt.v1 import strict_yaml
from minwatt.v1.errors import UsageError, one_line
from minwatt.v1.quantities import in_range, parse_duration_s
from service.keys import DIGEST_PATTERN, ID_PATTERN, StoredKey
from service.quotas import UNLIMITED, Quota
from service.waiting import ANONYMOUS

Role = Literal["infer", "admin"]
Rate = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Bound = Annotated[int, Field(ge=1, le=1_000_000)]
Burst = Annotated[float, in_range(parse_duration_s, 0.01, 3600.0, "10ms to 1h")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Key(_Frozen):
    id: str = Field(pattern=ID_PATTERN)
    sha256: str = Field(pattern=DIGEST_PATTERN)


class _Quota(_Frozen):
    requests_per_s: Rate | None = Field(alias="requestsPerSecond", default=None)
    tokens_per_s: Rate | None = Field(alias="tokensPerSecond", default=None)
    burst_s: Burst = Field(alias="burst", default=1.0)
    max_in_flight: Bound | None = Field(alias="maxInFlight", default=None)
    max_queue_texts: Bound | None = Field(alias="maxQueueTexts", default=None)

    def quota(self) -> Quota:
        bounds = (self.requests_per_s, self.tokens_per_s, self.max_in_flight, self.max_queue_texts)
        requests, tokens, in_flight, texts = (math.inf if bound is None else bound for bound in bounds)
        return Quota(requests, tokens, self.burst_s, in_flight, texts)


class _Anyone(_Frozen):
    roles: tuple[Role, ...] = ("infer",)
    weight: float = Field(default=1.0, ge=0.001, le=1000.0)
    quota: _Quota = _Quota()


class _Tenant(_Anyone):
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62})$")
    keys: tuple[_Key, ...] = ()
    identities: tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...] = ()


class _File(_Frozen):
    tenants: tuple[_Tenant, ...] = ()
    default: _Anyone | None = None

    @model_validator(mode="after")
    def _each_once(self) -> _File:
        for what, values in (
            ("name", [tenant.name for tenant in self.tenants] + [ANONYMOUS]),
            ("key id", [key.id for tenant in self.tenants for key in tenant.keys]),
            ("identity", [identity for tenant in self.tenants for identity in tenant.identities]),
        ):
            twice = next((value for value, times in Counter(values).items() if times > 1), None)
            if twice == ANONYMOUS and what == "name":
                raise ValueError(f"tenants: name {twice!r} is that of `default`; allowed: any other")
            if twice is not None:
                raise ValueError(f"tenants: {what} {twice!r} is there twice; allowed: each once")
        return self


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whom requests are counted to, and what it may."""

    name: str
    roles: frozenset[str]
    weight: float = 1.0
    quota: Quota = UNLIMITED


OPEN = Tenant(ANONYMOUS, frozenset({"infer"}))  # everybody, where there is no file


@dataclass(frozen=True, slots=True)
class Directory:
    """Who is known. `default` None: who is not known is refused."""

    default: Tenant | None
    by_key_id: Mapping[str, tuple[StoredKey, Tenant]] = field(default_factory=dict)
    by_identity: Mapping[str, Tenant] = field(default_factory=dict)
    tenants: tuple[Tenant, ...] = ()
    asks_for_keys: bool = True

    def everyone(self) -> Iterable[Tenant]:
        return self.tenants if self.default is None else (*self.tenants, self.default)


# Names that are in the open; any other word of the file might be a key, put in the wrong place.
_FIELDS = frozenset(
    field.alias or name
    for schema in (_File, _Tenant, _Quota, _Key)
    for name, field in schema.model_fields.items()
)

OPEN_DIRECTORY = Directory(OPEN, asks_for_keys=False)


def read_tenants(path: Path) -> Directory:
    """Raises UsageError, one line, which never repeats what might be a key."""
    try:
        document = strict_yaml.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not YAML") from error
    except strict_yaml.SeveralDocumentsError as error:
        raise UsageError(f"{path}: {error}") from error
    except strict_yaml.UnreadableYamlError as error:
        if error.twice in _FIELDS:
            raise UsageError(f"{path}: {error}") from error
        line = f" at line {error.line}" if error.line else ""
        what = "not YAML" if error.twice is None else "a field that is there twice"
        raise UsageError(f"{path}: {what}{line}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: a YAML mapping with tenants and default is expected")
    try:
        file = _File.model_validate(document)
    except ValidationError as error:
        raise _without_secrets(error, str(path)) from error
    tenants = tuple(_tenant(one, one.name) for one in file.tenants)
    listed = list(zip(file.tenants, tenants, strict=True))
    return Directory(
        None if file.default is None else _tenant(file.default, ANONYMOUS),
        {
            key.id: (StoredKey(key.id, bytes.fromhex(key.sha256)), tenant)
            for one, tenant in listed
            for key in one.keys
        },
        {identity: tenant for one, tenant in listed for identity in one.identities},
        tenants,
    )


def _tenant(one: _Anyone, name: str) -> Tenant:
    return Tenant(name, frozenset(one.roles), one.weight, one.quota.quota())


def _without_secrets(error: ValidationError, where: str) -> UsageError:
    problems = error.errors(include_url=False)
    location = problems[0]["loc"]
    field_ = ".".join(map(str, location))
    if "keys" not in location:
        if problems[0]["type"] != "extra_forbidden":
            return one_line(error, where)
        allowed = (one.alias or name for name, one in _schema_at(location[:-1]).model_fields.items())
        return UsageError(f"{where}: {field_}: unknown field; allowed: {', '.join(allowed)}")
    return UsageError(f"{where}: {field_}: allowed: an entry {{id, sha256}} as `minwatt key new` prints it")


def _schema_at(location: tuple[int | str, ...]) -> type[_Frozen]:
    if not location:
        return _File
    if "quota" in location:
        return _Quota
    return _Tenant if location[0] == "tenants" else _Anyone
