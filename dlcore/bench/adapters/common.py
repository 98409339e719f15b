"""The data of the cases, the same for every library."""

import itertools

import numpy as np

ROWS = 20480  # of a training set: 64 MB for 784 columns, so batches are gathered from DRAM


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def training_data(sizes, loss):
    """(x, y): y holds class numbers, or values for mse."""
    x = normal(ROWS, sizes[0])
    if loss == "mse":
        return x, normal(ROWS, sizes[-1], seed=1)
    return x, np.random.default_rng(1).integers(0, sizes[-1], ROWS)


def weights(sizes):
    """[(w, b), ...] of an MLP."""
    layers = itertools.pairwise(sizes)
    return [
        (normal(a, b, seed=a) * np.float32(np.sqrt(2 / a)), np.zeros(b, np.float32))
        for a, b in layers
    ]


def operands(m, n, k, transposed):
    """a and b of a GEMM, one of them read transposed where the case says so."""
    a = normal(k, m).T if transposed == "A" else normal(m, k)
    b = normal(n, k, seed=1).T if transposed == "B" else normal(k, n, seed=1)
    return a, b


def convolution(shape):
    """x (N, H, W, C), w (R, R, C / groups, K), b (K), dy (N, P, Q, K) of a case."""
    n, c, h, w, k, r, stride, pad, groups = shape
    p, q = ((size + 2 * pad - r) // stride + 1 for size in (h, w))
    filters = normal(r, r, c // groups, k, seed=1) / np.float32(r)
    return normal(n, h, w, c), filters, normal(k, seed=2), normal(n, p, q, k, seed=3)
