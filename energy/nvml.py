"""One NVIDIA card through NVML: the only file that imports pynvml.

Owns opening a card by index or UUID, the units of NVML's calls, and what its errors mean to a caller. Leaves
which value to believe to energy.gpu, and which clock to set to energy.clocks. Called by opening and clocks,
and by the node agent, which also asks who computes on a card and how much.

NVML counts its initialisations, so that cards opened twice in a process are closed independently.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pynvml

from energy.gpu import GpuError, GpuGone, NotPermitted, Refused
from energy.reading import Telemetry

MW_PER_W = 1_000
HZ_PER_MHZ = 1_000_000
PERCENT = 100

_NEVER = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
}
_GONE = {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    pynvml.NVML_ERROR_GPU_NOT_FOUND,
    pynvml.NVML_ERROR_UNKNOWN,
}


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of an NVML call; its error as one of energy.gpu's, in NVML's own words."""
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        raise _error(error) from error


def _error(error: pynvml.NVMLError) -> GpuError:
    if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
        return NotPermitted(str(error))
    kind = Refused if error.value in _NEVER else GpuGone if error.value in _GONE else GpuError
    return kind(str(error))


def _known(read: Callable[[], float]) -> float | None:
    try:
        return read()
    except Refused:
        return None


@dataclass(frozen=True, slots=True)
class Instance:
    """A slice of a card that MIG splits. sm_count: its streaming multiprocessors."""

    uuid: str
    gpu_instance: int
    sm_count: int


class NvmlGpu:
    """An open card. Calls raise Refused, GpuGone or GpuError; setters need root."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._samples: dict[int, Any] = {}  # the last one of each GPU instance
        self.uuid: str = _call(pynvml.nvmlDeviceGetUUID, handle)
        self.name: str = _call(pynvml.nvmlDeviceGetName, handle)

    @classmethod
    def open(cls, selector: str) -> NvmlGpu:
        """The card with this index (digits) or UUID. Raises GpuError where there is none, or no driver."""
        _call(pynvml.nvmlInit)
        try:
            return cls(_find(selector))
        except GpuError:
            with contextlib.suppress(GpuError):
                _call(pynvml.nvmlShutdown)
            raise

    def close(self) -> None:
        for instance in list(self._samples):
            self._replace_sample(instance, None)
        _call(pynvml.nvmlShutdown)

    def energy_mj(self) -> int:
        """Millijoules since the driver was loaded (Volta and later)."""
        return int(_call(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._handle))

    def instant_power_mw(self) -> int:
        """Milliwatts of the moment, by the field that newer drivers have."""
        (field,) = _call(pynvml.nvmlDeviceGetFieldValues, self._handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])
        # The call succeeds for the card and tells of each field whether it has a value.
        if field.nvmlReturn != pynvml.NVML_SUCCESS:
            raise _error(pynvml.NVMLError(field.nvmlReturn))
        return int(field.value.uiVal)

    def average_power_mw(self) -> int:
        """Milliwatts: the mean of the last second on Ampere (GA100 not) and later, of the moment before."""
        return int(_call(pynvml.nvmlDeviceGetPowerUsage, self._handle))

    def shares_card(self) -> bool:
        """Whether MIG splits the card, or the handle is a slice of one."""
        if self.uuid.startswith("MIG-"):
            return True
        try:
            current, _ = _call(pynvml.nvmlDeviceGetMigMode, self._handle)
        except Refused:
            return False
        return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)

    def telemetry(self) -> Telemetry:
        return Telemetry(
            utilization=_known(lambda: _call(pynvml.nvmlDeviceGetUtilizationRates, self._handle).gpu / 100),
            clock_hz=_known(self.clock_hz),
            temperature_c=_known(self.temperature_c),
            power_limit_w=_known(self.power_limit_w),
        )

    def clock_hz(self) -> float:
        """Of the streaming multiprocessors."""
        clock_mhz = _call(pynvml.nvmlDeviceGetClockInfo, self._handle, pynvml.NVML_CLOCK_SM)
        return float(clock_mhz * HZ_PER_MHZ)

    def temperature_c(self) -> float:
        try:
            return float(_call(pynvml.nvmlDeviceGetTemperatureV, self._handle, pynvml.NVML_TEMPERATURE_GPU))
        except Refused:  # drivers before 570 have the older call only
            return float(_call(pynvml.nvmlDeviceGetTemperature, self._handle, pynvml.NVML_TEMPERATURE_GPU))

    def power_limit_w(self) -> float:
        return float(_call(pynvml.nvmlDeviceGetPowerManagementLimit, self._handle) / MW_PER_W)

    def default_power_limit_w(self) -> float:
        return float(_call(pynvml.nvmlDeviceGetPowerManagementDefaultLimit, self._handle) / MW_PER_W)

    def power_limit_range_w(self) -> tuple[float, float]:
        lowest_mw, highest_mw = _call(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, self._handle)
        return lowest_mw / MW_PER_W, highest_mw / MW_PER_W

    def set_power_limit_w(self, limit_w: float) -> None:
        """Raises ValueError outside power_limit_range_w."""
        lowest_w, highest_w = self.power_limit_range_w()
        if not lowest_w <= limit_w <= highest_w:
            raise ValueError(f"limit_w = {limit_w:g}: allowed: {lowest_w:g} to {highest_w:g}")
        _call(pynvml.nvmlDeviceSetPowerManagementLimit, self._handle, round(limit_w * MW_PER_W))

    def supported_clocks_mhz(self) -> tuple[int, ...]:
        """What the graphics clock can be locked to beside the memory's highest clock, ascending."""
        memory_mhz = _call(pynvml.nvmlDeviceGetSupportedMemoryClocks, self._handle)
        if not memory_mhz:
            return ()
        return tuple(
            sorted(_call(pynvml.nvmlDeviceGetSupportedGraphicsClocks, self._handle, max(memory_mhz)))
        )

    def lock_clocks_mhz(self, lowest_mhz: int, highest_mhz: int) -> None:
        """Keeps the graphics clock within the range until reset_clocks or the driver's reload."""
        _call(pynvml.nvmlDeviceSetGpuLockedClocks, self._handle, lowest_mhz, highest_mhz)

    def reset_clocks(self) -> None:
        _call(pynvml.nvmlDeviceResetGpuLockedClocks, self._handle)

    def compute_pids(self) -> frozenset[int]:
        """Processes that compute on the card, on all its instances for who is privileged."""
        processes = _call(pynvml.nvmlDeviceGetComputeRunningProcesses, self._handle)
        return frozenset(process.pid for process in processes)

    def process_activity(self, since_us: int) -> tuple[dict[int, int], int]:
        """Of each process that used the multiprocessors since then: percents of its samples, summed up.

        And the time of the newest sample, to ask from there on. Nobody did: an empty dict.
        """
        try:
            samples = _call(pynvml.nvmlDeviceGetProcessUtilization, self._handle, since_us)
        except GpuError as error:
            if _code(error) == pynvml.NVML_ERROR_NOT_FOUND:  # no sample since
                return {}, since_us
            raise
        activity: dict[int, int] = {}
        for sample in samples:
            if sample.pid and sample.smUtil <= PERCENT:  # drivers pad the list
                activity[sample.pid] = activity.get(sample.pid, 0) + sample.smUtil
        return activity, max((sample.timeStamp for sample in samples), default=since_us)

    def instances(self) -> tuple[Instance, ...]:
        """The slices that MIG splits the card into; none where it is whole."""
        if not self.shares_card():
            return ()
        found = []
        for index in range(_call(pynvml.nvmlDeviceGetMaxMigDeviceCount, self._handle)):
            try:
                slice_ = _call(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, self._handle, index)
            except GpuError as error:
                if _code(error) == pynvml.NVML_ERROR_NOT_FOUND:  # no slice has this number
                    continue
                raise
            found.append(
                Instance(
                    _call(pynvml.nvmlDeviceGetUUID, slice_),
                    _call(pynvml.nvmlDeviceGetGpuInstanceId, slice_),
                    int(_call(pynvml.nvmlDeviceGetAttributes, slice_).multiprocessorCount),
                )
            )
        return tuple(found)

    def instance_activity(self, gpu_instance: int) -> float | None:
        """Share of an instance's multiprocessors that were busy since this was asked last, 0 to 1.

        None the first time. Hopper and later; Refused by others.
        """
        sample = _call(pynvml.nvmlGpmSampleAlloc)
        try:
            _call(pynvml.nvmlGpmMigSampleGet, self._handle, gpu_instance, sample)
            before = self._samples.get(gpu_instance)
            busy = None if before is None else _busy(before, sample)
        except GpuError:
            _free(sample)
            raise
        self._replace_sample(gpu_instance, sample)
        return busy

    def _replace_sample(self, gpu_instance: int, sample: Any | None) -> None:
        before = self._samples.pop(gpu_instance, None)
        if before is not None:
            _free(before)
        if sample is not None:
            self._samples[gpu_instance] = sample


def present_gpus() -> tuple[str, ...]:
    """UUIDs of this machine's cards, by index. Raises GpuError where there is no driver."""
    with _initialised():
        handles = [
            _call(pynvml.nvmlDeviceGetHandleByIndex, index)
            for index in range(_call(pynvml.nvmlDeviceGetCount))
        ]
        return tuple(_call(pynvml.nvmlDeviceGetUUID, handle) for handle in handles)


@contextlib.contextmanager
def _initialised() -> Iterator[None]:
    _call(pynvml.nvmlInit)
    try:
        yield
    finally:
        with contextlib.suppress(GpuError):
            _call(pynvml.nvmlShutdown)


def _busy(before: Any, now: Any) -> float:
    asked = pynvml.c_nvmlGpmMetricsGet_t()
    asked.version, asked.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, 1
    asked.sample1, asked.sample2 = before, now
    asked.metrics[0].metricId = pynvml.NVML_GPM_METRIC_SM_UTIL
    metric = _call(pynvml.nvmlGpmMetricsGet, asked).metrics[0]
    if metric.nvmlReturn != pynvml.NVML_SUCCESS:
        raise _error(pynvml.NVMLError(metric.nvmlReturn))
    return float(min(max(metric.value / PERCENT, 0.0), 1.0))


def _free(sample: Any) -> None:
    with contextlib.suppress(GpuError):
        _call(pynvml.nvmlGpmSampleFree, sample)


def _code(error: GpuError) -> int | None:
    """NVML's own number of what failed."""
    return getattr(error.__cause__, "value", None)


def visible_gpu(environ: Mapping[str, str]) -> str | None:
    """Index or UUID of the card that the runtime computes on; None where every card is hidden.

    NVML knows nothing of CUDA_VISIBLE_DEVICES, and the runtime takes the first card named there.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    return None if visible in {"", "-1"} else visible


def _find(selector: str) -> Any:
    if not selector.isdigit():
        try:
            return _call(pynvml.nvmlDeviceGetHandleByUUID, selector)
        except GpuError as error:
            raise type(error)(f"GPU {selector!r}: {error}") from error
    count = _call(pynvml.nvmlDeviceGetCount)
    if int(selector) >= count:
        raise GpuError(f"GPU {selector}: this machine has {count}, counted from 0")
    return _call(pynvml.nvmlDeviceGetHandleByIndex, int(selector))
