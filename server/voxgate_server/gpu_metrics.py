# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Gauges of the machine's NVIDIA GPUs, read through NVML at each scrape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_LABELS: Final = ("gpu", "uuid")
_PERCENT: Final = 0.01
_MILLIWATT: Final = 1e-3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Gauge:
    name: str
    what: str
    read: Callable[[Any, Any], float]  # NVML and a device's handle


_GAUGES: Final = (
    _Gauge(
        "voxgate_gpu_utilization_ratio",
        "Part of the last sample period in which a kernel was running, 0 to 1",
        lambda nvml, device: nvml.nvmlDeviceGetUtilizationRates(device).gpu * _PERCENT,
    ),
    _Gauge(
        "voxgate_gpu_memory_used_bytes",
        "Device memory in use, by all processes",
        lambda nvml, device: nvml.nvmlDeviceGetMemoryInfo(device).used,
    ),
    _Gauge(
        "voxgate_gpu_memory_bytes",
        "Device memory",
        lambda nvml, device: nvml.nvmlDeviceGetMemoryInfo(device).total,
    ),
    _Gauge(
        "voxgate_gpu_temperature_celsius",
        "Temperature of the GPU",
        lambda nvml, device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
    ),
    _Gauge(
        "voxgate_gpu_power_watts",
        "Power that the board draws",
        lambda nvml, device: nvml.nvmlDeviceGetPowerUsage(device) * _MILLIWATT,
    ),
)


class GpuGauges(Collector):
    """Reads every GPU that NVML shows; what one of them does not tell is left out."""

    def __init__(self, nvml: Any) -> None:
        """`nvml` is the module pynvml, initialised.

        Raises:
            NVMLError: NVML cannot list the GPUs.
        """
        self._nvml = nvml
        self._devices = []
        for index in range(nvml.nvmlDeviceGetCount()):
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            self._devices.append(((str(index), str(nvml.nvmlDeviceGetUUID(device))), device))

    def __len__(self) -> int:
        return len(self._devices)

    def collect(self) -> Iterator[Metric]:
        for gauge in _GAUGES:
            family = GaugeMetricFamily(gauge.name, gauge.what, labels=_LABELS)
            for labels, device in self._devices:
                try:
                    family.add_metric(labels, gauge.read(self._nvml, device))
                except self._nvml.NVMLError as error:
                    # Not supported (a MIG slice has no utilization), or the GPU fell off the bus.
                    log.debug("%s of GPU %s: %s", gauge.name, labels[0], error)
            if family.samples:
                yield family


def find_gpus() -> GpuGauges | None:
    """The GPUs of this machine; None if there are none, or no `nvidia-ml-py` to see them with."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        gpus = GpuGauges(pynvml)
    except pynvml.NVMLError as error:
        log.debug("no GPU gauges: %s", error)
        return None
    return gpus if len(gpus) else None
