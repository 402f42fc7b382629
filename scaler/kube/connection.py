"""Where the API server is and who we are to it: the pod's service account, or a kubeconfig as kubectl has it.

Called by `api`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from minwatt.v1.errors import UsageError

NEEDS = "--kubernetes: needs the kubernetes package, 37 or newer: pip install 'minwatt[k8s]'"

try:
    from kubernetes.aio import config
    from kubernetes.aio.client import Configuration
except ImportError as error:
    raise UsageError(NEEDS) from error

_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)  # of a kubeconfig that is none


async def configuration(kubeconfig: Path | None, context: str) -> Any:
    """Raises UsageError."""
    settings = Configuration()
    settings.connection_pool_maxsize = 0  # each watch holds a connection: no bound
    # Clusters' own authorities often lack an extension that Python 3.13 began to insist on, and that Go never
    # did. Chain and host name are verified all the same.
    settings.disable_strict_ssl_verification = True
    try:
        if kubeconfig is None and not context:
            try:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
                return settings
            except config.ConfigException:
                pass  # not in a pod: as kubectl does, by $KUBECONFIG or ~/.kube/config
        if kubeconfig is not None:
            kubeconfig.open("rb").close()  # the library says it in two lines, and of its content
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(kubeconfig) if kubeconfig else None,
            context=context or None,
            client_configuration=settings,
            persist_config=False,
        )
    except (config.ConfigException, yaml.YAMLError, OSError, *_MALFORMED) as error:
        raise unusable(kubeconfig, error) from error
    return settings


def unusable(kubeconfig: Path | None, error: BaseException) -> UsageError:
    """What to say of settings that lead to no cluster, or whose certificates are none."""
    where = f"--kubeconfig = {str(kubeconfig)!r}" if kubeconfig else "--kubernetes"
    return UsageError(f"{where}: no cluster to connect to ({_first_line(error)})")


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
