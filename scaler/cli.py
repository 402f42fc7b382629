"""`minwatt up`, `minwatt scale` and `minwatt policy check`: parse, call, print."""

from __future__ import annotations

import asyncio
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from minwatt.resources import default_model_dir, model_dir
from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_keys import DEFAULT_FLEET, FLEET_ALLOWED, checked_fleet
from minwatt.v1.redis_address import ALLOWED as REDIS_ALLOWED
from scaler.bus_opening import DEFAULT_LISTEN, BusOptions
from scaler.dashboard.options import DEFAULT_ADDRESS, OFF, DashboardOptions
from scaler.grpc_tls import tls_files
from scaler.inputs import read_inputs
from scaler.kube.external_scaler import listen_options
from scaler.kube.policy_object import annotation_problem, on_kubernetes
from scaler.local.command import DoorFiles
from scaler.local.up import UpOptions, run_up
from scaler.policy import load_policy
from scaler.scale import ScaleOptions, run_scale

_Policy = Annotated[Path | None, typer.Option(help="PowerPolicy file. [default: the shipped one]")]
_Profile = Annotated[Path | None, typer.Option(help="Profile file. [default: the shipped one]")]
_MetricsPort = Annotated[
    int, typer.Option(help="Prometheus port of the scaler; 0: a free one.", min=0, max=65535)
]
_LEASE, _HEALTH_PORT = "minwatt-scaler", 8081
_Dashboard = Annotated[
    str | None,
    typer.Option(
        help=f"HOST:PORT of the page that shows the fleet, or {OFF}. "
        f"[default: {DEFAULT_ADDRESS}, or a free port if that is taken]"
    ),
]
_DashboardToken = Annotated[
    Path | None, typer.Option(help="Tokens, one a line: who looks must show one of them.")
]
_Record = Annotated[Path | None, typer.Option(help="Directory for fleet.jsonl and decisions.jsonl.")]


def up(
    policy: _Policy = None,
    profile: _Profile = None,
    model: Annotated[
        Path | None, typer.Option(help="Model directory, or a shipped model's name. [default: support-text]")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="gRPC port; 0: a free one.", min=0, max=65535)] = 8500,
    metrics_port: _MetricsPort = 9090,
    dashboard: _Dashboard = None,
    dashboard_token_file: _DashboardToken = None,
    record: _Record = None,
    meter: Annotated[
        str, typer.Option(help="Each replica's meter: auto, nvml, rapl, modelled, agent or replayed:FILE.")
    ] = "auto",
    node_agent: Annotated[
        Path | None,
        typer.Option(help="Socket of the node agent, which sets clocks for replicas that are not root."),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Always that many. [default: what the policy allows]")
    ] = None,
    tenants: Annotated[
        Path | None, typer.Option(help="API keys, weights and quotas; quotas are each replica's.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain: serve over TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM: clients must show a certificate of this authority.")
    ] = None,
) -> None:
    """The whole system on this machine: a scaler, and replicas as processes that share one port.

    Example: minwatt up --policy examples/policy.yaml --port 8500 --record out/run
    """
    door = DoorFiles(tenants, tls_cert, tls_key, tls_client_ca)
    model = model_dir(model or default_model_dir())
    shown = DashboardOptions(dashboard, dashboard_token_file)
    options = UpOptions(model, host, port, metrics_port, meter, node_agent, record, door, shown)
    asyncio.run(run_up(read_inputs(policy, profile, replicas), options, _say))


def scale(
    policy: _Policy = None,
    profile: _Profile = None,
    listen: Annotated[
        str | None, typer.Option(help=f"HOST:PORT that replicas join. [default: {DEFAULT_LISTEN}]")
    ] = None,
    bus_redis: Annotated[
        str | None, typer.Option(help=f"Meet the replicas in a Redis instead: {REDIS_ALLOWED}.")
    ] = None,
    bus_redis_password_file: Annotated[
        Path | None, typer.Option(help="Its password; read at each connection.")
    ] = None,
    bus_token_file: Annotated[
        Path | None,
        typer.Option(help="Tokens, one a line: replicas must show one of them. [default: anybody may join]"),
    ] = None,
    bus_tls_cert: Annotated[Path | None, typer.Option(help="Of --listen: PEM. [default: plaintext]")] = None,
    bus_tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    fleet: Annotated[str, typer.Option(help=f"The replicas' --fleet: {FLEET_ALLOWED}.")] = DEFAULT_FLEET,
    host: Annotated[
        str | None, typer.Option(help="Address of the metrics and health ports. [default: that of --listen]")
    ] = None,
    metrics_port: _MetricsPort = 9090,
    dashboard: _Dashboard = None,
    dashboard_token_file: _DashboardToken = None,
    record: _Record = None,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Every PowerPolicy of a cluster, and its replicas too.")
    ] = False,
    profiles: Annotated[
        Path | None,
        typer.Option(help="Directory of profiles, for --kubernetes. [default: the shipped profile]"),
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="[default: the pod's service account, else as kubectl]")
    ] = None,
    context: Annotated[str, typer.Option(help="Of the kubeconfig. [default: its current one]")] = "",
    namespace: Annotated[
        list[str] | None, typer.Option(help="Of policies; may be given again. [default: all]")
    ] = None,
    lease_namespace: Annotated[str, typer.Option(help="[default: the pod's own]")] = "",
    lease_name: Annotated[str, typer.Option(help="Lease of which one copy is the leader.")] = _LEASE,
    identity: Annotated[
        str, typer.Option(help="Of this copy, a random part is added. [default: the host's name]")
    ] = "",
    health_port: Annotated[
        int, typer.Option(help="/livez and /readyz; 0: a free one.", min=0, max=65535)
    ] = _HEALTH_PORT,
    external_scaler: Annotated[
        str | None, typer.Option(help="HOST:PORT that KEDA asks for desired replicas. [default: none]")
    ] = None,
    external_scaler_tls_cert: Annotated[Path | None, typer.Option(help="Of that port: PEM.")] = None,
    external_scaler_tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    external_scaler_tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM: who asks must show a certificate of this authority.")
    ] = None,
) -> None:
    """The scaler alone, for replicas that join it: moves operating points, says how many there should be.

    Example: minwatt scale --policy policy.yaml --listen 0.0.0.0:8600, and on each host
    minwatt serve --scaler SCALER-HOST:8600. In a cluster, where it scales too:
    minwatt scale --kubernetes --profiles /etc/minwatt/profiles --listen 0.0.0.0:8600
    """
    shown = DashboardOptions(dashboard, dashboard_token_file)
    tls = tls_files("--bus-tls", bus_tls_cert, bus_tls_key)
    bus = BusOptions(listen, bus_redis, bus_redis_password_file, host, bus_token_file, tls)
    external = listen_options(
        external_scaler,
        external_scaler_tls_cert,
        external_scaler_tls_key,
        external_scaler_tls_client_ca,
    )
    if kubernetes:
        if policy or profile or record or fleet != DEFAULT_FLEET:
            raise UsageError(
                "--policy, --profile, --fleet, --record: not with --kubernetes: policies are objects there"
            )
        from scaler.kube.command import KubeOptions, run_kube  # an extra: read only where it is asked for

        options = KubeOptions(
            bus=bus,
            profiles=profiles,
            kubeconfig=kubeconfig,
            context=context,
            namespaces=tuple(namespace or ()),
            lease_namespace=lease_namespace,
            lease_name=lease_name,
            identity=identity,
            metrics_port=metrics_port,
            health_port=health_port,
            external=external,
            dashboard=shown,
        )
        asyncio.run(run_kube(options, _say))
        return
    of_a_cluster = {
        "--profiles": profiles is not None,
        "--kubeconfig": kubeconfig is not None,
        "--context": bool(context),
        "--namespace": bool(namespace),
        "--lease-namespace": bool(lease_namespace),
        "--lease-name": lease_name != _LEASE,
        "--identity": bool(identity),
        "--health-port": health_port != _HEALTH_PORT,
        "--external-scaler": external is not None,
    }
    given = [option for option, there in of_a_cluster.items() if there]
    if given:
        raise UsageError(f"{', '.join(given)}: with --kubernetes only")
    try:
        checked_fleet(fleet)
    except ValueError as error:
        raise UsageError(f"--fleet = {fleet!r}: {error}") from error
    asyncio.run(
        run_scale(read_inputs(policy, profile), ScaleOptions(bus, fleet, metrics_port, record, shown), _say)
    )


policy_app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Check a PowerPolicy. Example: minwatt policy check examples/policy.yaml",
)


@policy_app.callback()
def _policy() -> None:
    """Keeps `check` a subcommand: with one command alone, typer would drop its name."""


@policy_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="PowerPolicy file.")],
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON, in SI units.")] = False,
) -> None:
    """What the policy asks for; or one line that names field, value and what is allowed, and exit code 2.

    Example: minwatt policy check examples/policy.yaml
    """
    policy = load_policy(file)
    wrong = annotation_problem(policy.metadata.annotations)
    if wrong is not None:
        raise UsageError(f"{file}: {wrong}")
    if json:
        document = policy.model_dump(mode="json") | {"not_acted_on": policy.not_acted_on()}
        _say(dumps(document, indent=2))
    else:
        _say(policy.summary())
        _say(f"  on Kubernetes: {on_kubernetes(policy)}")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's own output
