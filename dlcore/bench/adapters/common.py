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


def layer_arrays(kind, shape):
    """x, dy, scale and shift of a layer; images are (N, H, W, C)."""
    result = (shape[0], shape[1] // 2, shape[2] // 2, shape[3]) if kind == "max_pool" else shape
    vectors = normal(2, shape[-1], seed=2)
    return normal(*shape), normal(*result, seed=1), vectors[0], vectors[1]


GATES = {"lstm": 4, "gru": 3}


def recurrent(kind, shape):
    """x (B, T, I), w, u, b, dy (B, T, U) of a recurrent layer of shape (T, B, I, U)."""
    steps, rows, features, units = shape
    columns = GATES[kind] * units
    w = normal(features, columns, seed=1) / np.float32(np.sqrt(features))
    u = normal(units, columns, seed=2) / np.float32(np.sqrt(units))
    b, dy = normal(columns, seed=3), normal(rows, steps, units, seed=4)
    return normal(rows, steps, features), w, u, b, dy


def attention_arrays(shape):
    """q, k, v and dy (B, T, heads, width) of a case."""
    return [normal(*shape, seed=seed) for seed in range(4)]


def embedding_arrays(shape):
    """Table (V, D), ids (N, T) and dy (N, T, D) of a case."""
    size, width, *ids = shape
    return (
        normal(size, width),
        np.random.default_rng(1).integers(0, size, ids).astype(np.int32),
        normal(*ids, width, seed=2),
    )


# Networks that read sequences. An LSTM over the rows of an image: T, I, U, classes. One over the
# words of a review: T, V, D, U. A transformer that writes characters: T, V, D, heads, blocks.
IMAGE_ROWS, REVIEWS, GPT = (28, 28, 128, 10), (200, 20000, 128, 64), (128, 65, 128, 4, 4)


def image_rows(shape, n):
    """(x (n, T, I), classes (n)) of a case of the shape of `IMAGE_ROWS`."""
    steps, features, _, classes = shape
    return normal(n, steps, features), np.random.default_rng(1).integers(0, classes, n)


def tokens(shape, n):
    """Token numbers (n, T), each followed by the next, for cases of shape (T, V, ...)."""
    steps, size, *_ = shape
    ids = np.random.default_rng(1).integers(0, size, (n, steps + 1)).astype(np.int32)
    return ids[:, :-1], ids[:, 1:]


def reviews(shape, n):
    """(token numbers (n, T), 0 or 1 (n, 1)) of a case of the shape of `REVIEWS`."""
    return tokens(shape, n)[0], (normal(n, 1, seed=2) > 0).astype(np.float32)


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


# Convolutional networks: the shape of an image, and the layers in words that every adapter reads.
# conv: 3x3 without padding, relu; conv_norm: 3x3, padded, batch normalization, relu; pool: the
# largest of 2x2; mean: over all pixels; dense: the classes.
NETS = {
    "mnist": (
        (28, 28, 1),
        (("conv", 32), ("pool",), ("conv", 64), ("pool",), ("flatten",), ("dropout",), ("dense",)),
    ),
    "cifar": (
        (32, 32, 3),
        (
            ("conv_norm", 32), ("conv_norm", 32), ("pool",), ("conv_norm", 64), ("conv_norm", 64),
            ("pool",), ("conv_norm", 128), ("mean",), ("dense",),
        ),
    ),
}  # fmt: skip
CLASSES = 10
BATCHES = 10  # of a training set of images


def images(net, n):
    """(x (n, H, W, C), y (n)) for a network."""
    shape, _ = NETS[net]
    return normal(n, *shape), np.random.default_rng(1).integers(0, CLASSES, n)


def net_layers(net):
    """[(kind, filters or None, shape of its input)] of a network."""
    (h, w, c), words = NETS[net]
    layers = []
    for kind, *filters in words:
        layers.append((kind, filters[0] if filters else None, (h, w, c)))
        if kind == "conv":
            h, w = h - 2, w - 2
        elif kind == "pool":
            h, w = h // 2, w // 2
        elif kind == "flatten":
            h, w, c = 1, 1, h * w * c
        elif kind == "mean":
            h, w = 1, 1
        c = filters[0] if filters else c
    return layers


def net_weights(net):
    """[(w, b) or (w, scale, shift, mean, variance) of each layer that has weights]."""
    result = []
    for kind, k, (_, _, c) in net_layers(net):
        if kind in ("conv", "conv_norm"):
            w = normal(3, 3, c, k, seed=c) * np.float32(np.sqrt(2 / (9 * c)))
            zero, one = np.zeros(k, np.float32), np.ones(k, np.float32)
            result.append((w, zero) if kind == "conv" else (w, one, zero, zero, one))
        elif kind == "dense":
            w = normal(c, CLASSES, seed=c) * np.float32(np.sqrt(1 / c))
            result.append((w, np.zeros(CLASSES, np.float32)))
    return result
