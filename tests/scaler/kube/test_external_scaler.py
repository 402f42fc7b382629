"""KEDA's questions, asked by a stock client; and what an HPA makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import kubernetes_validate
import pytest
import trustme
import yaml
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from scaler.grpc_tls import TlsFiles
from scaler.kube.desired_replicas import BELIEVED_S, DesiredReplicas
from scaler.kube.external_scaler import ExternalScaler, ListenOptions, listen_options
from scaler.kube.keda import externalscaler_pb2 as pb
from scaler.kube.keda import externalscaler_pb2_grpc as pb_grpc
from scaler.policy import Policy
from scaler.policy_sections import Replicas
from scaler.simulate.baselines.hpa_law import (
    DEFAULT_BEHAVIOR,
    SYNC_S,
    TOLERANCE,
    Behavior,
    ScalingPolicy,
    Steadied,
    pods_for_total,
)

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples/kubernetes/scaledobject.yaml"
HERE = ListenOptions("127.0.0.1:0")
_WAIT_S = 5.0


def ref(policy: str = "a", namespace: str = "ns", **more: str) -> pb.ScaledObjectRef:
    metadata = {"scalerAddress": "here:1", "policy": policy, **more}
    return pb.ScaledObjectRef(name="so", namespace=namespace, scalerMetadata=metadata)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def asked(
    desired: DesiredReplicas, tls: TlsFiles | None = None, trust: grpc.ChannelCredentials | None = None
) -> AsyncIterator[Any]:
    """A client of the running service."""
    scaler = await ExternalScaler.listen(ListenOptions("127.0.0.1:0", tls), desired)
    channel = (
        grpc.aio.insecure_channel(scaler.address)
        if trust is None
        else grpc.aio.secure_channel(f"localhost:{scaler.address.rpartition(':')[2]}", trust)
    )
    try:
        yield pb_grpc.ExternalScalerStub(channel)
    finally:
        await channel.close()
        await scaler.close()


async def metric(client: Any, of: pb.ScaledObjectRef) -> float:
    """As KEDA asks: for the name that the specification gave it."""
    (spec,) = (await client.GetMetricSpec(of)).metricSpecs
    asking = pb.GetMetricsRequest(scaledObjectRef=of, metricName=spec.metricName)
    (value,) = (await client.GetMetrics(asking)).metricValues
    assert (value.metricName, value.metricValue) == (spec.metricName, value.metricValueFloat)
    return float(value.metricValueFloat)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


async def test_the_metric_is_the_desired_replicas_for_a_target_of_one() -> None:
    desired = DesiredReplicas()
    desired.publish("ns", "a", 7)
    desired.publish("ns", "b", 3)
    async with asked(desired) as client:
        (spec,) = (await client.GetMetricSpec(ref())).metricSpecs
        assert (spec.targetSize, spec.targetSizeFloat) == (1, 1.0)
        assert [await metric(client, ref("a")), await metric(client, ref("b"))] == [7.0, 3.0]
        desired.publish("ns", "a", 1)
        assert await metric(client, ref("a")) == 1.0
        assert (await client.IsActive(ref("a"))).result


async def test_an_unknown_policy_is_told_those_of_its_own_namespace() -> None:
    desired = DesiredReplicas()
    desired.publish("ns", "a", 7)
    desired.publish("ns", "b", 3)
    desired.publish("other", "secret", 5)
    async with asked(desired) as client:
        calls = [
            client.IsActive(ref("c")),
            client.GetMetricSpec(ref("c")),
            client.GetMetrics(pb.GetMetricsRequest(scaledObjectRef=ref("c"))),
            client.StreamIsActive(ref("c")).read(),
        ]
        for call in calls:
            code, said = await refusal(call)
            assert code is grpc.StatusCode.NOT_FOUND
            assert "'c'" in said
            assert "minwatt.dev/replicas: external" in said
            assert said.endswith("there are: a, b")
        code, said = await refusal(client.GetMetricSpec(ref("secret")))
        assert (code, "secret" in said.partition(";")[2]) == (grpc.StatusCode.NOT_FOUND, False)
        code, said = await refusal(client.GetMetricSpec(ref("a", namespace="third")))
        assert said.endswith("there is none")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (pb.ScaledObjectRef(name="so", namespace="ns"), "scalerMetadata.policy"),
        (ref(policy=""), "scalerMetadata.policy"),
        (ref(namespace=""), "namespace"),
        (pb.ScaledObjectRef(), "namespace"),
    ],
)
async def test_a_trigger_that_names_no_policy_is_told_which_field(
    wrong: pb.ScaledObjectRef, field: str
) -> None:
    desired = DesiredReplicas()
    desired.publish("ns", "a", 7)
    async with asked(desired) as client:
        code, said = await refusal(client.GetMetrics(pb.GetMetricsRequest(scaledObjectRef=wrong)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert said.startswith(f"{field} is missing")


async def test_no_number_is_made_up_and_the_hpa_can_be_made_all_the_same() -> None:
    clock = Clock()
    desired = DesiredReplicas(clock)
    async with asked(desired) as client:

        async def why() -> str:
            assert (await client.IsActive(ref())).result, "a fleet is never to go to zero"
            assert (await client.GetMetricSpec(ref())).metricSpecs
            code, said = await refusal(client.GetMetrics(pb.GetMetricsRequest(scaledObjectRef=ref())))
            assert code is grpc.StatusCode.UNAVAILABLE
            return said

        assert "acts on no policy" in await why()
        desired.publish("ns", "a", None)
        assert await why() == "nothing is decided yet"
        desired.publish("ns", "a", 4)
        clock.now_s = BELIEVED_S
        assert await metric(client, ref()) == 4.0
        clock.now_s += 15
        assert await why() == "the last decision was repeated 75 s ago"
        desired.publish("ns", "a", 4)
        assert await metric(client, ref()) == 4.0
        desired.forget("ns", "a")
        assert "acts on no policy" in await why()


async def test_a_stream_says_active_at_once_and_with_each_new_number_and_ends_with_the_policy() -> None:
    desired = DesiredReplicas()
    desired.publish("ns", "a", 2)
    desired.publish("ns", "b", 2)
    async with asked(desired) as client:
        stream = client.StreamIsActive(ref())

        async def told() -> bool:
            return bool((await asyncio.wait_for(stream.read(), _WAIT_S)).result)

        assert await told()
        desired.publish("ns", "a", 3)
        assert await told()
        desired.publish("ns", "a", 3)
        desired.publish("ns", "b", 3)  # neither is news of this policy: the next word is of what comes after
        desired.forget("ns", "a")
        assert (await refusal(told()))[0] is grpc.StatusCode.NOT_FOUND


async def test_a_controller_that_stops_ends_the_streams_in_good_order() -> None:
    desired = DesiredReplicas()
    desired.publish("ns", "a", 2)
    scaler = await ExternalScaler.listen(HERE, desired)
    async with grpc.aio.insecure_channel(scaler.address) as channel:
        client: Any = pb_grpc.ExternalScalerStub(channel)
        stream = client.StreamIsActive(ref())
        assert (await asyncio.wait_for(stream.read(), _WAIT_S)).result
        await scaler.close()
        assert await asyncio.wait_for(stream.read(), _WAIT_S) is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
        code, _ = await refusal(client.IsActive(ref()))
        assert code is grpc.StatusCode.UNAVAILABLE


NAMES = st.sampled_from([("x", "a"), ("x", "b"), ("y", "a")])


@given(st.lists(st.tuples(NAMES, st.one_of(st.none(), st.just("forget"), st.integers(1, 9)))))
def test_what_is_known_is_what_was_said_last(steps: list[tuple[tuple[str, str], int | str | None]]) -> None:
    desired, model = DesiredReplicas(Clock()), dict[tuple[str, str], int | None]()
    for key, said in steps:
        change, before = desired.next_change, model.get(key, "absent")
        if isinstance(said, str):
            desired.forget(*key)
            model.pop(key, None)
        else:
            desired.publish(*key, said)
            model[key] = said
        assert change.is_set() == (model.get(key, "absent") != before)
        for (namespace, name), number in model.items():
            found = desired.of(namespace, name)
            assert found == number if number is not None else not isinstance(found, int)


# --- certificates -----------------------------------------------------------------------------------------


OPTION = "--external-scaler-tls"


def files(folder: Path, authority: trustme.CA, clients: trustme.CA | None = None) -> TlsFiles:
    made = authority.issue_cert("localhost")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    if clients is None:
        return TlsFiles(OPTION, folder / "cert.pem", folder / "key.pem")
    clients.cert_pem.write_to_path(folder / "clients.pem")
    return TlsFiles(OPTION, folder / "cert.pem", folder / "key.pem", folder / "clients.pem")


def trusting(authority: trustme.CA, mine: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
    if mine is None:
        return grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    key, chain = mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes()
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes(), key, chain)


async def test_over_tls_only_clients_of_the_authority_may_ask(tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    desired = DesiredReplicas()
    desired.publish("ns", "a", 7)
    tls = files(tmp_path, ours, clients=theirs)
    async with asked(desired, tls, trusting(ours, theirs.issue_cert("keda"))) as client:
        assert await metric(client, ref()) == 7.0
    for nobody in (trusting(ours), trusting(ours, ours.issue_cert("keda"))):
        async with asked(desired, tls, nobody) as client:
            assert (await refusal(client.IsActive(ref())))[0] is grpc.StatusCode.UNAVAILABLE


async def test_renewed_certificates_serve_at_once_and_unusable_ones_change_nothing(tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    desired = DesiredReplicas()
    desired.publish("ns", "a", 7)
    scaler = await ExternalScaler.listen(ListenOptions("127.0.0.1:0", files(tmp_path, first)), desired)
    target = f"localhost:{scaler.address.rpartition(':')[2]}"

    async def answered(authority: trustme.CA) -> bool:
        async with grpc.aio.secure_channel(target, trusting(authority)) as channel:
            client: Any = pb_grpc.ExternalScalerStub(channel)
            try:
                return bool((await client.IsActive(ref())).result)
            except grpc.aio.AioRpcError:
                return False

    try:
        assert await answered(first)
        (tmp_path / "key.pem").write_text("half a file")
        assert await answered(first)
        files(tmp_path, second)
        assert await answered(second)
        assert not await answered(first)
    finally:
        await scaler.close()


@pytest.mark.parametrize("address", ["8601", "here:", "here:70000", "here:port", ""])
async def test_an_address_without_a_port_is_one_line(address: str) -> None:
    with pytest.raises(UsageError, match=r"--external-scaler = .*: allowed: HOST:PORT, ports 0 to 65535"):
        await ExternalScaler.listen(ListenOptions(address), DesiredReplicas())


async def test_a_taken_port_is_one_line() -> None:
    scaler = await ExternalScaler.listen(HERE, DesiredReplicas())
    try:
        with pytest.raises(UsageError, match="can't listen there; is the port taken"):
            await ExternalScaler.listen(ListenOptions(scaler.address), DesiredReplicas())
    finally:
        await scaler.close()


def test_files_that_can_not_be_used_are_one_line_with_option_and_file(tmp_path: Path) -> None:
    made = files(tmp_path, trustme.CA())
    with pytest.raises(UsageError, match=r"--external-scaler-tls-key = .*none\.pem can't be read"):
        ListenOptions("here:0", TlsFiles(OPTION, made.certificate, tmp_path / "none.pem")).check()
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")
    with pytest.raises(UsageError, match="not the key of the certificate"):
        ListenOptions("here:0", made).check()


def test_options_that_need_one_another_say_so(tmp_path: Path) -> None:
    cert, key, ca = (tmp_path / name for name in ("cert", "key", "ca"))
    assert listen_options(None, None, None, None) is None
    assert listen_options("here:1", None, None, None) == ListenOptions("here:1")
    assert listen_options("here:1", cert, key, ca) == ListenOptions("here:1", TlsFiles(OPTION, cert, key, ca))
    for alone in ((cert, key, None), (None, None, ca)):
        with pytest.raises(UsageError, match="need --external-scaler"):
            listen_options(None, *alone)
    for missing, files_given in (
        ("key", (cert, None, None)),
        ("cert", (None, key, None)),
        ("cert", (None, None, ca)),
    ):
        with pytest.raises(UsageError, match=f"--external-scaler-tls-{missing}: is missing"):
            listen_options("here:1", *files_given)


# --- what the HPA makes of it -----------------------------------------------------------------------------


def example() -> tuple[Policy, Mapping[str, Any]]:
    policy, scaled = yaml.safe_load_all(EXAMPLE.read_text(encoding="utf-8"))
    return Policy.model_validate(policy), scaled


def rules(behavior: Mapping[str, Any]) -> Behavior:
    """Of a HorizontalPodAutoscaler."""

    def policies(direction: str) -> tuple[ScalingPolicy, ...]:
        found = behavior[direction]["policies"]
        return tuple(ScalingPolicy(one["type"].lower(), one["value"], one["periodSeconds"]) for one in found)

    up, down = behavior["scaleUp"], behavior["scaleDown"]
    return Behavior(
        up["stabilizationWindowSeconds"],
        policies("scaleUp"),
        down["stabilizationWindowSeconds"],
        policies("scaleDown"),
    )


class Hpa:
    """One that KEDA made, with an AverageValue target of one: syncs by hand."""

    def __init__(self, replicas: int, bounds: Replicas, behavior: Behavior, tolerance: float) -> None:
        self.replicas = replicas
        self._tolerance = tolerance
        self._steadied = Steadied(behavior, bounds, replicas)
        self._now_s = 0.0

    def sync(self, total: float) -> int:
        self._now_s += SYNC_S
        proposal = pods_for_total(self.replicas, total, 1.0, self._tolerance)
        self.replicas = self._steadied.settle(self._now_s, self.replicas, proposal)
        return self.replicas


async def test_the_example_is_what_the_service_and_the_policy_say() -> None:
    policy, scaled = example()
    spec = scaled["spec"]
    (trigger,) = spec["triggers"]
    name, namespace = policy.metadata.name, policy.metadata.namespace
    assert namespace is not None
    assert policy.metadata.annotations == {"minwatt.dev/replicas": "external"}
    assert scaled["metadata"]["namespace"] == namespace
    target = policy.spec.target_ref
    assert target is not None
    assert spec["scaleTargetRef"] == target.model_dump(by_alias=True)
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (
        policy.spec.replicas.min,
        policy.spec.replicas.max,
    )
    assert spec["fallback"]["replicas"] == policy.spec.fallback_replicas
    assert (trigger["type"], trigger["metricType"]) == ("external", "AverageValue")
    desired = DesiredReplicas()
    desired.publish(namespace, name, 12)
    of = pb.ScaledObjectRef(
        name=scaled["metadata"]["name"], namespace=namespace, scalerMetadata=trigger["metadata"]
    )
    async with asked(desired) as client:
        assert await metric(client, of) == 12.0


def test_the_hpa_for_an_adapter_is_valid_and_behaves_as_the_one_that_keda_makes() -> None:
    policy, scaled = example()
    hpa = yaml.safe_load((EXAMPLE.parent / "hpa.yaml").read_text(encoding="utf-8"))
    kubernetes_validate.validate(hpa, "1.36", strict=True)
    spec = hpa["spec"]
    assert spec["behavior"] == scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert spec["scaleTargetRef"] == scaled["spec"]["scaleTargetRef"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (
        policy.spec.replicas.min,
        policy.spec.replicas.max,
    )
    (source,) = [one["external"] for one in spec["metrics"]]
    assert source["metric"]["selector"] == {"matchLabels": {"policy": policy.metadata.name}}
    assert source["target"] == {"type": "AverageValue", "averageValue": "1"}


async def test_an_hpa_as_in_the_example_lands_on_the_desired_replicas_at_its_next_sync() -> None:
    policy, scaled = example()
    behavior = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    tolerances = {behavior[direction]["tolerance"] for direction in ("scaleUp", "scaleDown")}
    assert tolerances == {"0"}
    hpa = Hpa(2, policy.spec.replicas, rules(behavior), 0.0)
    desired = DesiredReplicas()
    async with asked(desired) as client:
        for number in (2, 3, 40, 39, 38, 40, 8, 7, 2, 20, 21, 22, 21, 20):
            desired.publish("ns", "a", number)
            assert hpa.sync(await metric(client, ref())) == number


@given(st.integers(1, 60), st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_with_the_default_tolerance_a_change_of_a_tenth_or_less_is_never_made(
    first: int, numbers: list[int]
) -> None:
    """Steps and windows aside: what is missing at the end is what the tolerance hides, and it never goes."""
    at_once = (ScalingPolicy("pods", 60, SYNC_S),)
    hpa = Hpa(first, Replicas(min=1, max=60), Behavior(0.0, at_once, 0.0, at_once), TOLERANCE)
    for number in numbers:
        before = hpa.replicas
        for _ in range(3):
            hpa.sync(number)
        assert hpa.replicas == (before if abs(number - before) <= before / 10 else number)
        assert before >= 10 or hpa.replicas == number, "below 10 each replica is more than a tenth"


@pytest.mark.parametrize("current", range(1, 61))
def test_no_value_of_the_metric_gets_a_scale_up_past_the_tolerance(current: int) -> None:
    """The number that is tested is the number that is set: whatever the metric says, in thousandths, the HPA
    goes past current + 10% or stays. So the honest number loses nothing to a cleverer one."""
    reached = {pods_for_total(current, milli / 1000, 1.0) for milli in range(0, 2 * current * 1000, 20)}
    assert not reached & set(range(current + 1, current + current // 10 + 1))


def test_the_default_behaviour_is_slower_than_the_example() -> None:
    """What docs/keda.md says of it: 45 s up from 2 to 20, and 5 minutes before the first replica goes."""
    bounds = Replicas(min=2, max=40)
    up = Hpa(2, bounds, DEFAULT_BEHAVIOR, TOLERANCE)
    assert [up.sync(20) for _ in range(4)] == [6, 12, 20, 20]
    down = Hpa(20, bounds, DEFAULT_BEHAVIOR, TOLERANCE)
    down.sync(20)
    syncs = [down.sync(2) for _ in range(25)]
    assert syncs.index(2) == 300 / SYNC_S - 1
