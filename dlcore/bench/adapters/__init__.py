"""How each library does each case: one small class a library.

A method builds its data and returns (call, units): `call()` does `units` calls or training steps.
This package runs in the interpreter of the library it measures and needs no more than that library
and NumPy; a method that is absent leaves the library out of the row.
"""

from .formulas import NumPy
from .gpu import Cupy, DlcoreGpu, TorchGpu, TorchGraphs
from .jax import Jax
from .keras import Dlcore, KerasJax, KerasTensorFlow, KerasTorch
from .others import OnnxRuntime, ScikitLearn, TensorFlow
from .torch import Torch, TorchCompiled

# name -> class; the environment of its process; whether it counts as the library "as installed"
ADAPTERS = {
    "dlcore": (Dlcore, {}, True),
    "numpy": (NumPy, {}, True),
    "numpy+skylakex": (NumPy, {"OPENBLAS_CORETYPE": "SkylakeX"}, False),
    "torch": (Torch, {}, True),
    "torch.compile": (TorchCompiled, {}, True),
    "jax": (Jax, {}, True),
    "tensorflow": (TensorFlow, {}, True),
    "keras@torch": (KerasTorch, {}, True),
    "keras@jax": (KerasJax, {}, True),
    "keras@tensorflow": (KerasTensorFlow, {}, True),
    "onnxruntime": (OnnxRuntime, {}, True),
    "sklearn": (ScikitLearn, {}, True),
}

# The same on a GPU.
GPU_ADAPTERS = {
    "dlcore": (DlcoreGpu, {"DLCORE_DEVICE": "gpu"}, True),
    "dlcore@cupy": (DlcoreGpu, {"DLCORE_BACKEND": "cupy"}, False),
    "torch": (TorchGpu, {}, True),
    "torch.graphs": (TorchGraphs, {}, True),
    "cupy": (Cupy, {}, True),
}


def on(device):
    """The table of a device, "cpu" or "gpu"."""
    return GPU_ADAPTERS if device == "gpu" else ADAPTERS
