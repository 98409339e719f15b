"""dlcore: neural-network kernels and training at the speed of the hardware, with the names of
Keras 3."""

from dlcore import config, ops, random
from dlcore.backends import get_num_threads, isa, isas, set_num_threads
from dlcore.program import Variable, function, grad, gradients, value_and_grad

__version__ = "0.1.0"

__all__ = [
    "Variable", "config", "function", "get_num_threads", "grad", "gradients", "isa", "isas", "ops",
    "random", "set_num_threads", "value_and_grad",
]  # fmt: skip
