"""Values and slopes at bounds, at 0 and beyond ranges, of integers and of nothing: what Keras 3 on
TensorFlow gives, a row each."""

import numpy as np
import pytest

import dlcore
from dlcore import ops

F, Z = np.float32, np.int32
INF = np.inf

# name: (what is computed, the expected value); types are compared too
VALUES = {
    "arange without stop": (lambda: ops.arange(5, step=2), Z([0, 2, 4])),
    "linspace of integers": (lambda: ops.linspace(-3, 3, 5, dtype="int32"), Z([-3, -2, 0, 1, 3])),
    "cumsum as integers": (lambda: ops.cumsum(F([0.6, 1.6, 0.6]), dtype="int32"), Z([0, 1, 1])),
    "cumprod as integers": (lambda: ops.cumprod(F([1.6, 2.6]), dtype="int32"), Z([1, 2])),
    "sinh": (lambda: ops.sinh(F([100, -100, INF, 0])), F([INF, -INF, INF, 0])),
    "sinh of an integer": (lambda: ops.sinh(0), F(0)),
    "arccosh": (lambda: ops.arccosh(F([-1e30, 1])), F([np.nan, 0])),
    "ldexp": (lambda: ops.ldexp(F([0, 2.0**-120]), Z([300, 150])), F([0, 2.0**30])),
    "normalize": (lambda: ops.normalize(F([[3e-8, 4e-8], [0, 0]])), F([[0.3, 0.4], [0, 0]])),
    "normalize 1": (lambda: ops.normalize(F([[1, 3]]), order=1, epsilon=8), F([[0.125, 0.375]])),
    "all of nothing": (lambda: ops.all(np.zeros((2, 0)), axis=1), np.array([True, True])),
    "any of nothing": (lambda: ops.any(np.zeros((0, 2)), axis=0), np.array([False, False])),
    "all of no rows": (lambda: ops.all(np.zeros((0, 2)), axis=1), np.zeros(0, bool)),
    "logsumexp of nothing": (lambda: ops.logsumexp(F([])), F(-INF)),
    "softmax over two axes": (lambda: ops.softmax(np.zeros((2, 3, 4), F), (0, 2)),
                              np.full((2, 3, 4), 0.125, F)),
    "log_softmax over two axes": (lambda: ops.log_softmax(np.zeros((2, 1, 2), F), axis=(0, -1)),
                                  np.full((2, 1, 2), -np.log(4), F)),
    "moveaxis of two": (lambda: ops.moveaxis(np.arange(6).reshape(1, 2, 3), [0, 1], [-1, 0]),
                        np.moveaxis(np.arange(6).reshape(1, 2, 3), [0, 1], [-1, 0])),
    "dot": (lambda: ops.dot(np.ones((2, 3), F), np.ones((4, 3, 5), F)), np.full((2, 4, 5), 3, F)),
    "matmul of integers": (lambda: ops.matmul(Z([[2**25 + 1]]), Z([[1]])), Z([[2**25 + 1]])),
    "dot of small integers": (lambda: ops.dot(np.uint8([200]), np.uint8([200])), Z(40000)),
    "segment_sum": (lambda: ops.segment_sum(Z([1, 2, 3]), Z([0, 1, 0])), Z([4, 2])),
    "scatter": (lambda: ops.scatter(Z([[0], [2], [0]]), Z([1, 2, 3]), (3,)), Z([4, 0, 2])),
    "scatter_update": (lambda: ops.scatter_update(Z([1, 2]), [[1]], [9]), Z([1, 9])),
    "scatter_update add": (lambda: ops.scatter_update(Z([1, 2]), [[1]], [9], "add"), Z([1, 11])),
    "round": (lambda: ops.round(Z([2**25 + 1]), 1), Z([2**25 + 1])),
    "round tens": (lambda: ops.round(Z([37, -12]), -1), Z([40, -10])),
    "trunc": (lambda: ops.trunc(Z([3])), Z([3])),
    "relu6": (lambda: ops.relu6(Z([-1, 3, 9])), Z([0, 3, 6])),
    "threshold": (lambda: ops.threshold(Z([-1, 3]), 0, 7), Z([7, 3])),
    "nansum": (lambda: ops.nansum(Z([2**25, 1])), Z(2**25 + 1)),
    "nanmedian": (lambda: ops.nanmedian(F([[1, np.nan], [2, 4]]), axis=[1]), F([1, 3])),
    "float": (lambda: ops.zeros(2, dtype=float), np.zeros(2, F)),
    "get_item": (lambda: ops.get_item(Z([[1, 2], [3, 4]]), (slice(None), 1)), Z([2, 4])),
    "unique": (lambda: ops.unique(Z([5, 1, 1]), return_index=True, size=4)[1], Z([1, 0, 1, 1])),
    "gaussian_blur": (lambda: ops.image.gaussian_blur(np.eye(3, dtype=F)[..., None], (1, 3),
                                                      (1e-3, 1.0))[..., 0], np.eye(3, dtype=F)),
}  # fmt: skip

# name: (f, x, the gradient of the sum of f(x))
SLOPES = {
    "elu": (ops.elu, [0, -0.0, 1], [1, 1, 1]),
    "celu": (ops.celu, [0, 1], [1, 1]),
    "selu": (ops.selu, [0, 1], [1.05070098, 1.05070098]),
    "sinh": (ops.sinh, [0, 1], [1, np.cosh(1)]),
    "clip": (lambda x: ops.clip(x, 0, 1), [0, 0.5, 1, 2], [1, 1, 1, 0]),
    "hard_tanh": (ops.hard_tanh, [-1, 0, 1, 2], [1, 1, 1, 0]),
    "maximum": (lambda x: ops.maximum(x, 1), [0, 1, 2], [0, 1, 1]),
    "minimum": (lambda x: ops.minimum(1, x), [0, 1, 2], [1, 0, 0]),
    "prod": (ops.prod, [0, 2, 3], [6, 0, 0]),
    "prod of two zeros": (ops.prod, [0, 0, 3], [0, 0, 0]),
    "segment_prod": (lambda x: ops.segment_prod(x, Z([0, 0, 1]), 2), [0, 2, 3], [2, 0, 1]),
    "normalize": (ops.normalize, [0, 0], [1e7, 1e7]),
    "nanvar": (ops.nanvar, [np.nan, 1, 2], [0, -0.5, 0.5]),
    "logaddexp2": (lambda x: ops.logaddexp2(x, x[::-1]), [1, 1], [1, 1]),
    "binary_crossentropy": (lambda x: ops.binary_crossentropy(F([0, 1]), x, from_logits=True),
                            [0, 0], [0.5, -0.5]),
    "BinaryCrossentropy": (
        lambda x: 2 * dlcore.losses.BinaryCrossentropy(from_logits=True)(F([0, 1]), x),
        [0, 0], [0.5, -0.5]),
    "var of one": (ops.var, [1.5], [0]),
    "target": (lambda x: ops.categorical_crossentropy(x, np.zeros(2, F), from_logits=True),
               [1, 0], [np.log(2), np.log(2)]),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_value(name):
    f, expected = VALUES[name]
    y = f()
    assert (y.dtype, y.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("name", SLOPES)
def test_slope(name):
    f, x, expected = SLOPES[name]
    dx = dlcore.grad(lambda x: ops.sum(f(x)))(F(x))
    np.testing.assert_allclose(dx, expected, rtol=1e-6)


def test_layers():
    x = F([[3e-8, 4e-8]])
    np.testing.assert_allclose(dlcore.layers.UnitNormalization()(x), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(dlcore.layers.Add()([x]), x)
    attention = dlcore.layers.MultiHeadAttention(2, 3, output_shape=7)
    assert attention.compute_output_shape((None, 4, 6), (None, 5, 6)) == (None, 4, 7)
    prelu = dlcore.layers.PReLU("ones")
    prelu(x)
    dx = dlcore.grad(lambda x: ops.sum(prelu(x)))(F([[-1, 0]]))
    np.testing.assert_array_equal(dx, [[1, 0]])


def test_edges_of_whole_numbers():
    layer = dlcore.layers.Discretization([0.5, 1.5])
    np.testing.assert_array_equal(layer(Z([[0, 1, 2]])), [[0, 1, 2]])
    layer = dlcore.layers.Discretization([0.5, 1.5], dtype="mixed_bfloat16")
    np.testing.assert_array_equal(layer(F([[0.5, 1.4]])), [[1, 1]])


def test_variables_equal_numbers():
    v, w = dlcore.Variable(F([1, 2])), dlcore.Variable(F([1, 2]))
    np.testing.assert_array_equal(v == 1, [True, False])
    np.testing.assert_array_equal(v != F([1, 3]), [False, True])
    assert v in [w, v] and v not in [w, None, "v"] and v != w
    assert dlcore.Variable(3) == 3
