"""Who is calling, and may it: from an API key or a certificate to a tenant and what it has used.

Owns the directory in force and the tenants' usage; reads the file anew when it changes. A caller without a
key is whom its certificate names, else the default tenant; a key that is not stored is refused, whatever
the certificate says. Called by `inference` for each request; the loop is started by `server`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from minwatt.v1.errors import UsageError
from service.calls import Call
from service.changed_files import changes
from service.keys import NO_KEY, id_of
from service.quotas import Usage
from service.statuses import permission_denied, unauthenticated
from service.tenants import OPEN_DIRECTORY, Directory, Role, Tenant, read_tenants
from service.waiting import Share

_BEARER = "bearer "

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Caller:
    """A tenant at the door."""

    tenant: Tenant
    usage: Usage
    shares: tuple[Share, Share] = field(init=False)  # of its interactive requests, and of the class batch

    def __post_init__(self) -> None:
        self.become(self.tenant)

    def become(self, tenant: Tenant) -> None:
        """What the file says of it now; what it has used stays."""
        self.tenant = tenant
        self.usage.limit(tenant.quota)
        self.shares = (Share(tenant.name, tenant.weight), Share(tenant.name, tenant.weight, batch=True))


class Access:
    """One per process. Without a file everybody is one tenant that may `infer`."""

    def __init__(self, directory: Directory = OPEN_DIRECTORY) -> None:
        self._directory = directory
        self._callers: dict[str, Caller] = {}
        self.changed: Callable[[], None] = lambda: None  # called when another directory is in force
        self.replace(directory)

    def replace(self, directory: Directory) -> None:
        """Another directory is in force; who stays keeps what it has used."""
        self._directory = directory
        callers = {}
        for tenant in directory.everyone():
            known = self._callers.get(tenant.name)
            if known is None:
                known = Caller(tenant, Usage(tenant.quota))
            known.become(tenant)
            callers[tenant.name] = known
        self._callers = callers
        self.changed()

    @property
    def directory(self) -> Directory:
        return self._directory

    @property
    def callers(self) -> Iterable[Caller]:
        """Of all tenants of the directory: no more labels than it has."""
        return self._callers.values()

    def caller(self, call: Call | None, role: Role) -> Caller:
        """Who calls; None shows nothing. Raises Refusal: UNAUTHENTICATED, PERMISSION_DENIED."""
        tenant = self.tenant(call)
        if role not in tenant.roles:
            raise permission_denied(tenant.name, role)
        return self._callers[tenant.name]

    def known(self, tenant: str) -> Caller:
        """Whom a front end has found to call and to be allowed to `infer`: by what is in force here.

        Raises Refusal: UNAUTHENTICATED, PERMISSION_DENIED.
        """
        caller = self._callers.get(tenant)
        if caller is None:
            raise unauthenticated("the API key is not known here any more")
        if "infer" not in caller.tenant.roles:
            raise permission_denied(tenant, "infer")
        return caller

    def tenant(self, call: Call | None) -> Tenant:
        """Who calls, whatever it may do. Raises Refusal: UNAUTHENTICATED."""
        directory = self._directory
        if directory.asks_for_keys and call is not None:
            key = _key_of(call)
            if key is not None:
                stored, tenant = directory.by_key_id.get(id_of(key) or "", (NO_KEY, None))
                fits = stored.fits(key)
                if tenant is None or not fits:
                    raise unauthenticated("the API key is not known here")
                return tenant
            identity = call.peer_identity
            if identity is not None and identity in directory.by_identity:
                return directory.by_identity[identity]
        if directory.default is None:
            raise unauthenticated(
                "an API key is needed: `authorization: Bearer KEY` or `x-api-key: KEY` in the metadata"
            )
        return directory.default

    async def keep_reading(self, path: Path) -> None:
        """Until cancelled. A file that can't be used changes nothing but the log."""
        async for _ in changes([path], used=()):  # first of all it is read again: the start took a while
            try:
                directory = await asyncio.to_thread(read_tenants, path)
            except UsageError as error:
                log.warning("%s: the tenants read before stay in force", error)
                continue
            self.replace(directory)
            log.info("%s: %d tenants are in force", path, len(directory.tenants))


def _key_of(call: Call) -> str | None:
    """The key that is shown, if any; an `authorization` of another scheme is a wrong key."""
    authorization = call.metadata("authorization")
    if authorization is None:
        return call.metadata("x-api-key")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return ""
