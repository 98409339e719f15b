"""What this machine can do, measured, and what it is."""

import functools
import math
import os
import typing

from dlcore import backends

NEAR = 200.0  # ns: below, a cache line passes inside one core complex; above, between two
TWO_CORES = 1.5  # two threads that multiply less than that faster than one share a core
DRAM_BYTES = 512 << 20  # beyond any cache


def limit(name, threads):
    """Flop/s of float32 multiply-adds ("fma"), or bytes/s of reading from "l2", "l3" or "dram"."""
    if name == "fma":
        return backends.fma_peak(threads)
    if name == "dram":
        return backends.read_bandwidth(DRAM_BYTES, threads)
    size = cache_bytes()[name]  # half of each core's L2, a quarter of the common L3
    return backends.read_bandwidth(size // 2 * threads if name == "l2" else size // 4, threads)


class Cores(typing.NamedTuple):
    """How two threads stand to one another; all NaN if there is one core or one thread."""

    latency: float = math.nan  # ns for a cache line from one to the other
    gain: float = math.nan  # multiply-adds of both at once / of one alone

    @property
    def state(self):
        """ "A" (one core complex), "B" (two), "S" (they share a core), "-" (one thread)."""
        if math.isnan(self.latency):
            return "-"
        return "S" if self.gain < TWO_CORES else "A" if self.latency < NEAR else "B"


def cores(threads):
    """Measure how the cores of `threads` threads stand to one another."""
    if threads == 1:
        return Cores()
    return Cores(backends.latency_ns(), backends.two_thread_gain())


def state(*readings):
    """The state of all `readings` (Cores), None if it changed in between."""
    kinds = {reading.state for reading in readings}
    return kinds.pop() if len(kinds) == 1 else None


@functools.cache
def cache_bytes():
    """{"l2": bytes, "l3": bytes} of the first core, as the kernel tells; typical sizes if not."""
    sizes = {"l2": 1 << 20, "l3": 32 << 20}
    folder = "/sys/devices/system/cpu/cpu0/cache"
    for index in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        try:
            with open(f"{folder}/{index}/level") as file:
                level = "l" + file.read().strip()
            with open(f"{folder}/{index}/size") as file:
                size = file.read().strip()
        except OSError:
            continue
        if level in sizes:
            sizes[level] = int(size[:-1]) << {"K": 10, "M": 20}[size[-1]]
    return sizes


def describe():
    """What the numbers were taken on: a dict for the head of the report."""
    import platform

    import numpy as np

    import dlcore

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "caches": {name: f"{size >> 10} KiB" for name, size in cache_bytes().items()},
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "dlcore": f"{dlcore.__version__} ({dlcore.isa()} of {', '.join(dlcore.isas())})",
        "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "not set: OpenBLAS chooses"),
    }


def _processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        import platform

        return platform.machine()
