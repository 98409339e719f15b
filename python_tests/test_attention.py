"""dot_product_attention: its kernel against the formulas, which test_ops.py holds to finite
differences; masks; bits; layers."""

import itertools

import numpy as np
import oracle
import pytest

import dlcore
from dlcore import ops

RNG = np.random.default_rng(3)
EPS = {"float32": 4e-6, "float64": 1e-13}


def heads(dtype, *shape):
    return RNG.normal(size=shape).astype(dtype)


# B, T, S, N, K, H, D
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 5, 5, 2, 2, 4, 4),
    (1, 1, 130, 2, 2, 8, 8),
    (2, 97, 193, 2, 1, 5, 3),
    (1, 200, 100, 4, 2, 16, 17),
    (1, 100, 300, 1, 1, 33, 8),
    (3, 96, 96, 2, 2, 32, 32),
]


def run(f, arrays):
    value, grads = dlcore.value_and_grad(f, tuple(range(len(arrays))))(*arrays)
    return [value, *grads]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "causal", "kind"),
    list(itertools.product(SHAPES, (False, True), ("plain", "padding", "mask", "bias"))),
    ids=str,
)
def test_kernel_against_formula(shape, causal, kind, dtype):
    b, t, s, n, k, h, d = shape
    xs = [heads(dtype, b, t, n, h), heads(dtype, b, s, k, h), heads(dtype, b, s, k, d)]
    more = {}
    if kind == "padding":
        more["mask"] = RNG.random((b, 1, 1, s)) < 0.7
    elif kind == "mask":
        more["mask"] = RNG.random((n, t, s)) < 0.5
    elif kind == "bias":
        xs.append(heads(dtype, 1, n, t, s))
    weight = heads(dtype, b, t, n, d)

    def loss(q, k, v, bias=None):
        y = ops.dot_product_attention(q, k, v, bias, is_causal=causal, **more)
        return ops.sum(y * ops.cast(weight, y.dtype))

    def forward(*xs):
        return ops.dot_product_attention(*xs, is_causal=causal, **more)

    wide = [x.astype("float64") for x in xs]
    scale = EPS[dtype] * (1 + s / 50)
    np.testing.assert_allclose(forward(*xs), oracle.run(forward, wide)[0], rtol=scale, atol=scale)
    _, expected = oracle.gradient(loss, wide)
    for actual, e in zip(run(loss, xs)[1:], expected, strict=True):
        np.testing.assert_allclose(
            actual, e, rtol=5 * scale, atol=5 * scale * max(1, np.abs(e).max())
        )


def test_a_query_that_sees_nothing_gives_zero():
    q, k, v = (
        heads("float32", 2, 3, 1, 4),
        heads("float32", 2, 5, 1, 4),
        heads("float32", 2, 5, 1, 4),
    )
    mask = np.ones((2, 1, 3, 5), bool)
    mask[1, 0, 2] = False

    def loss(q, k, v):
        return ops.sum(ops.square(ops.dot_product_attention(q, k, v, mask=mask)))

    y = ops.dot_product_attention(q, k, v, mask=mask)
    assert not y[1, 2].any() and np.isfinite(y).all() and y[1, 1].any()
    _, grads = dlcore.value_and_grad(loss, (0, 1, 2))(q, k, v)
    assert all(np.isfinite(g).all() for g in grads) and not grads[0][1, 2].any()


def test_bits_do_not_depend_on_threads_or_batch():
    q, k, v = (heads("float32", 4, 150, 2, 24) for _ in range(3))

    def loss(q, k, v):
        return ops.sum(ops.square(ops.dot_product_attention(q, k, v, is_causal=True)))

    before = dlcore.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 7):
            dlcore.set_num_threads(threads)
            results.append(run(loss, (q, k, v)))
    finally:
        dlcore.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    whole = ops.dot_product_attention(q, k, v, is_causal=True)
    for i in range(4):
        row = ops.dot_product_attention(q[i : i + 1], k[i : i + 1], v[i : i + 1], is_causal=True)
        np.testing.assert_array_equal(row[0], whole[i])


def test_later_keys_do_not_change_earlier_queries():
    q, k, v = (heads("float32", 1, 130, 2, 8) for _ in range(3))
    y = ops.dot_product_attention(q, k, v, is_causal=True)
    k[:, 70:], v[:, 70:] = 9, -9
    z = ops.dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_array_equal(y[:, :70], z[:, :70])
    assert (y[:, 70:] != z[:, 70:]).any()


def test_large_scores_and_nan():
    q = np.full((1, 2, 1, 4), 1e4, "float32")
    k, v = q * np.array([1, -1], "float32").reshape(1, 2, 1, 1), heads("float32", 1, 2, 1, 4)
    y = ops.dot_product_attention(q, k, v)
    np.testing.assert_allclose(y[0, 1, 0], v[0, 0, 0], rtol=1e-6)
    q[0, 1, 0, 0] = np.nan
    y = ops.dot_product_attention(q, k, v)
    assert np.isnan(y[0, 1]).all() and np.isfinite(y[0, 0]).all()


WRONG = [
    ({"query": (2, 3, 4)}, r"expected query, key and value \(batch, steps, heads, width\)"),
    ({"key": (2, 3, 3, 5)}, r"expected key \(2, steps, a divisor of 4, 5\)"),
    ({"key": (2, 3, 4, 6)}, r"expected key \(2, steps"),
    ({"value": (2, 4, 4, 5)}, "expected value of at least one step like key"),
    ({"key": (2, 0, 4, 5), "value": (2, 0, 4, 5)}, "expected value of at least one step"),
    ({"mask": (3, 3)}, r"expected mask that broadcasts to \(2, 4, 7, 3\), got \(3, 3\)"),
    ({"bias": (1, 2, 4, 7, 3)}, "expected bias that broadcasts to"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=str)
def test_wrong_shapes_are_explained(changes, message):
    shapes = {"query": (2, 7, 4, 5), "key": (2, 3, 4, 5), "value": (2, 3, 4, 5), **changes}
    arrays = {name: np.ones(s, "float32") for name, s in shapes.items()}
    with pytest.raises(ValueError, match="dot_product_attention: " + message):
        ops.dot_product_attention(**arrays)


def test_memory_grows_with_the_sequence_not_its_square():
    from dlcore.backends import compile
    from dlcore.program.graph import Graph, Trace

    sizes = []
    for t in (256, 1024):
        with Trace() as trace:
            q, k, v = (trace.input((1, t, 1, 16), "float32") for _ in range(3))
            y = ops.dot_product_attention(q, k, v, is_causal=True)
            grads = dlcore.gradients(ops.sum(ops.square(y)), [q, k, v])
            sizes.append(compile(Graph(trace, grads)).arena_bytes)
    assert sizes[1] <= 4.5 * sizes[0]
