"""Philox: the published known answers, and the array formulas against the compiled kernel."""

import numpy as np
import pytest

from dlcore.ops import philox
from dlcore.ops.random import random_bits

# Random123, tests/kat_vectors: block, stream, step, seed, words
KNOWN = [
    (0, 0, 0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (2**64 - 1, 2**32 - 1, 2**32 - 1, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (0x85A308D3243F6A88, 0x13198A2E, 0x03707344, 0x299F31D0A4093822,
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]  # fmt: skip
SHAPES = [(), (0,), (1,), (5,), (3, 7, 11), (40001,)]
DRAWS = [(0, 0, 0), (2**63 - 1, 3, 2**31 + 5), (12345, 2**32 - 1, 2**40 + 7)]  # seed, stream, step


def kernel(shape, dtype, kind, draw, *parameters):
    seed, stream, step = draw
    return random_bits(np.array([step]), shape, dtype, kind, seed, stream, *parameters)


@pytest.mark.parametrize(("block", "stream", "step", "seed", "words"), KNOWN)
def test_known_answers(block, stream, step, seed, words):
    got = philox.block_words(np, np.array([block], np.uint64), seed, stream, step)
    assert tuple(int(w) for w in got[0]) == words


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_agrees(shape, dtype, draw):
    for low, high in [(0, 1), (-0.05, 0.05), (1, 1 + 1e-6), (2, 2)]:
        y = kernel(shape, dtype, "uniform", draw, low, high)
        np.testing.assert_array_equal(y, philox.uniform(np, shape, dtype, *draw, low, high))
        assert y.dtype == dtype and y.shape == shape
        assert low == high or (np.all(y >= np.dtype(dtype).type(low)) and np.all(y < high))
    y, exact = (
        kernel(shape, dtype, "normal", draw, 1, 2),
        philox.normal(np, shape, dtype, *draw, 1, 2),
    )
    np.testing.assert_allclose(y, exact, rtol=0, atol=64 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_bernoulli_agrees(dtype):
    for p in (0, 2.0**-33, 0.3, 0.5, 1 - 2.0**-33, 1):
        for shape in SHAPES:
            y = kernel(shape, dtype, "bernoulli", DRAWS[1], p)
            assert y.dtype == dtype
            np.testing.assert_array_equal(
                y, philox.bernoulli(np, shape, dtype, *DRAWS[1], p), strict=True
            )


def test_distributions():
    shape = (1 << 19,)
    for dtype in ("float32", "float64"):
        x = philox.normal(np, shape, dtype, 42, 0, 0).astype("float64")
        for power, moment in enumerate([1, 0, 1, 0, 3]):
            assert abs(np.mean(x**power) - moment) < 0.07
        u = philox.uniform(np, shape, dtype, 42, 0, 0)
        counts = np.histogram(u, 64, (0, 1))[0] / (shape[0] / 64)
        assert np.all(abs(counts - 1) < 0.06)
        assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.006
