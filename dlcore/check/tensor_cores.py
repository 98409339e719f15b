"""Products on a GPU's tensor cores, by each of its kernels: a layer with gradients, whose three
products lie in the three ways that training has, against its formula in float64.

    y = sigmoid(x w + b)    dy = r y (1 - y)    dw = x^T dy    dx = dy w^T    db = sum of dy
"""

import contextlib

import numpy as np

from dlcore.check.runner import Result, error

PRECISIONS = ("bfloat16", "float16", "tf32")
SHAPES = ((40, 72, 64), (136, 64, 264), (260, 136, 272), (129, 328, 128))  # rows, inputs, outputs
ULPS = 2.0**16  # of float32: few of the last bits of a bfloat16 of the scale of the results


@contextlib.contextmanager
def _precise(precision):
    from dlcore import config

    before = config.matmul_precision()
    config.set_matmul_precision("tf32" if precision == "tf32" else "float32")
    try:
        yield
    finally:
        config.set_matmul_precision(before)


def _layer(precision):
    """A program of its own for each choice of kernels: gradients by x, w and b of sum(r y)."""
    import dlcore
    from dlcore import ops

    def loss(x, w, b, r):
        if precision != "tf32":
            x, w, b = (ops.cast(t, precision) for t in (x, w, b))
        return ops.sum(r * ops.cast(ops.sigmoid(ops.matmul(x, w) + b), "float32"))

    return dlcore.value_and_grad(loss, (0, 1, 2))


def _inputs(precision, shape):
    from dlcore.program import dtypes

    rows, inputs, outputs = shape
    draw = np.random.default_rng(0).normal
    x, b = draw(size=(rows, inputs)), draw(size=outputs)
    w = draw(0, inputs**-0.5, (inputs, outputs))
    if precision != "tf32":
        x, w, b = (dtypes.round_to_half(np, t, precision) for t in (x, w, b))
    return [t.astype("float32") for t in (x, w, b, draw(size=(rows, outputs)))]


def _expected(x, w, b, r):
    y = 1 / (1 + np.exp(-(x @ w + b)))
    dy = r * y * (1 - y)
    return dy @ w.T, x.T @ dy, dy.sum(0)


def check(precision, kernels, place, home):
    """The `Result` of products by `kernels`: "always" those for Hopper where the GPU is one, or
    "never", and how many went through those."""
    from dlcore.backends import cuda

    result = Result(f"layer, Hopper's kernels {kernels}", precision)
    before = cuda.use_hopper(kernels)
    try:
        with _precise(precision):
            for shape in SHAPES:
                xs = _inputs(precision, shape)
                _, made = _layer(precision)(*map(place, xs))
                expected = _expected(*(t.astype("float64") for t in xs))
                off = max(error(home(y), e) for y, e in zip(made, expected, strict=True))
                result.rows += 1
                result.value, result.allowed = max(result.value, off), ULPS
                if not off <= ULPS:
                    off = f"{shape}: off by {off:.3g} ulps, allowed {ULPS:g}"
                    result.failures.append(f"{result.op} {precision} {off}")
    finally:
        taken = cuda.use_hopper("large") - before
    return result, taken


def run(tell=lambda result: None):
    """Results of all precisions and kernels, on the compiled backend of a GPU; else none."""
    from dlcore import backends

    if backends.active() != "cuda":
        return []
    results = []
    for precision in PRECISIONS:
        for kernels in ("never", "always"):
            result, _ = check(precision, kernels, backends.device_array, backends.to_host)
            results.append(result)
            tell(result)
    return results
