"""`dlcore info`: version, instruction set, threads and devices."""


def add_arguments(parser):
    """No options."""


def run(options):
    import os
    import platform

    import numpy

    import dlcore
    from dlcore import backends

    lines = {
        "dlcore": f"{dlcore.__version__} in {os.path.dirname(dlcore.__file__)}",
        "Python, NumPy": f"{platform.python_version()}, {numpy.__version__}",
        "backend": backends.name,
        "instruction set": f"{dlcore.isa()} (this machine runs {', '.join(dlcore.isas())})",
        "threads": f"{dlcore.get_num_threads()} of {len(os.sched_getaffinity(0))} cores",
        "devices": "cpu",
        "float type": dlcore.config.floatx(),
        "data sets": os.environ.get("DLCORE_DATA") or "~/.dlcore",
    }
    width = max(map(len, lines)) + 2
    for name, value in lines.items():
        print(f"{name:{width}}{value}")
