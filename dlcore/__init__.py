"""dlcore: neural-network kernels and training at the speed of the hardware.

The names are those of Keras 3: ``import dlcore as keras``.
"""

from typing import Any

try:
    from dlcore.backends import (
        get_device,
        get_num_threads,
        isa,
        isas,
        set_device,
        set_num_threads,
    )
except ImportError as error:  # of the environment or the installation
    import os
    import sys

    name = os.path.basename(sys.argv[0])
    if name == "dlcore" or (name == "-m" and "dlcore" in sys.orig_argv):  # the command
        print(f"dlcore: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    raise

from dlcore import config, ops, random
from dlcore.program import Variable, function, grad, gradients, value_and_grad

__version__ = "0.1.0"

# Loaded when first used, so that the import takes no longer than the kernels need.
_MODULES = (
    "activations", "backend", "callbacks", "cli", "constraints", "data", "datasets",
    "dtype_policies", "initializers", "io", "layers", "losses", "metrics", "mixed_precision",
    "models", "optimizers", "preprocessing", "regularizers", "saving", "tree", "utils",
)  # fmt: skip
_NAMES = {
    "DTypePolicy": "dtype_policies",
    "FloatDTypePolicy": "dtype_policies",
    "Initializer": "initializers",
    "Input": "layers",
    "InputSpec": "layers",
    "KerasTensor": "layers",
    "Layer": "layers",
    "Loss": "losses",
    "Metric": "metrics",
    "Model": "models",
    "Optimizer": "optimizers",
    "Regularizer": "regularizers",
    "SeedGenerator": "random",
    "Sequential": "models",
    "device": "scopes",
    "name_scope": "scopes",
}


def version():
    """The version of the package."""
    return __version__


def __getattr__(name) -> Any:  # else editors take all these names for modules
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"dlcore.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"dlcore.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    from dlcore.lookup import no_attribute

    raise no_attribute("dlcore", name, __all__)


def __dir__():
    return sorted({*globals(), *_MODULES, *_NAMES} - {"_MODULES", "_NAMES", "Any"})


__all__ = [
    "Variable", "config", "function", "get_device", "get_num_threads", "grad", "gradients", "isa",
    "isas", "ops", "random", "set_device", "set_num_threads", "value_and_grad", "version",
]  # fmt: skip
__all__ += [*_MODULES, *_NAMES]
