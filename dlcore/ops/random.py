"""Random numbers from a counter (Philox4x32-10, Salmon et al. 2011): the same values on every
backend.

Element i of a draw depends only on (seed, stream, counter, i), so draws need no state but a step
counter.
"""

from dlcore.ops.calling import traceable
from dlcore.ops.op import Op

_KINDS = {"uniform": 0, "normal": 1, "bernoulli": 2}


def _formula(xp, counter, shape, dtype, kind, seed, stream, a, b):
    from dlcore.ops import philox

    step = counter.astype("uint64")  # stays an array: its value may be far away, on a GPU
    if kind == "uniform":
        return philox.uniform(xp, shape, dtype, seed, stream, step, a, b)
    if kind == "normal":
        return philox.normal(xp, shape, dtype, seed, stream, step, a, b)
    return philox.bernoulli(xp, shape, dtype, seed, stream, step, a)


def _kernel(node):
    at = node.attrs
    return "random", [_KINDS[at["kind"]], at["seed"], at["stream"]], [at["a"], at["b"]]


# a, b: low and high of uniform, mean and deviation of normal, probability of bernoulli
Op(
    "random",
    lambda counter, shape, dtype, kind, seed, stream, a, b: (shape, dtype),
    _formula,
    kernel=_kernel,
)


@traceable()
def random_bits(counter, shape, dtype, kind, seed, stream, a, b=0.0):
    """A draw for the step number in `counter`, int64 of one element; see `dlcore.random`."""
    from dlcore.ops.op import OPS, to_tensor

    return OPS["random"](
        to_tensor(counter), shape=tuple(shape), dtype=dtype, kind=kind, seed=int(seed),
        stream=int(stream), a=float(a), b=float(b),
    )  # fmt: skip
