"""`dlcore info`: version, instruction set, threads and devices."""


def add_arguments(parser):
    """No options."""


def run(options):
    import os
    import platform

    import numpy

    import dlcore

    lines = {
        "dlcore": f"{dlcore.__version__} in {os.path.dirname(dlcore.__file__)}",
        "Python, NumPy": f"{platform.python_version()}, {numpy.__version__}",
        "instruction set": f"{dlcore.isa()} (this machine runs {', '.join(dlcore.isas())})",
        "threads": f"{dlcore.get_num_threads()} of {len(os.sched_getaffinity(0))} cores",
        **_devices(),
        "float type": dlcore.config.floatx(),
        "dtype policy": dlcore.config.dtype_policy().name,
        "data sets": os.environ.get("DLCORE_DATA") or "~/.dlcore",
    }
    width = max(map(len, lines)) + 2
    for name, value in lines.items():
        print(f"{name:{width}}{value}")


def _devices():
    """What there is to run on, what runs now, and what is missing."""
    import dlcore
    from dlcore import backends

    try:
        gpu = backends.gpu()
        found = gpu.describe()
    except RuntimeError as error:
        active = "none" if dlcore.get_device() == "gpu" else backends.active()
        return {"backend": active, "devices": "cpu", "no gpu": str(error).removeprefix("gpu: ")}
    capability = ".".join(map(str, found["capability"]))
    free, total = (found[f"{kind}_bytes"] / 1e9 for kind in ("free", "total"))
    lines = {
        "backend": f"{backends.active()} on device {dlcore.get_device()!r}",
        "devices": "cpu, gpu (chosen by dlcore.set_device or DLCORE_DEVICE)",
        "gpu": f"{found['name']}, compute capability {capability}, "
        f"{found['multiprocessors']} multiprocessors",
        "gpu memory": f"{free:.1f} of {total:.1f} GB free",
        "gpu driver": f"for CUDA {found['driver']}; runtime {found['runtime']}",
        "gpu backend": f"{gpu.NAME} ({found['library']})",
    }
    if gpu.NAME == "cupy":
        lines["would add"] = (
            "a dlcore built with DLCORE_CUDA=ON: kernels that fuse ops, and a training step as one"
            " CUDA graph; now every op is a few kernels that Python starts one by one"
        )
    return lines
