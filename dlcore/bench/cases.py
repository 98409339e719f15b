"""What is measured: one `Case` a row, with its arithmetic, its memory traffic and what to reach."""

import itertools
import math
from dataclasses import dataclass, field

from dlcore.bench.adapters.common import (
    CLASSES,
    GATES,
    GPT,
    IMAGE_ROWS,
    REVIEWS,
    net_layers,
)


@dataclass(frozen=True)
class Target:
    """What a case should reach: a share of its limit, a ratio to a peer, or a time.

    kind : {"share", "ratio", "seconds", "above"}
        "share" of the case's limit; "ratio" of the time of `peer` (None: the best one) to dlcore's;
        "above": seconds that dlcore may need beyond `peer`.
    """

    kind: str
    value: float
    peer: str | None = None

    def __str__(self):
        if self.kind == "share":
            return f">= {100 * self.value:.0f} % of limit"
        if self.kind == "ratio":
            return f">= {self.value:g} x {self.peer or 'best peer'}"
        if self.kind == "above":
            return f"<= {self.peer} + {1e3 * self.value:g} ms"
        return f"<= {1e6 * self.value:g} us"

    def met(self, seconds, share, peers):
        """Whether it is reached; None if it cannot be told.

        seconds : float
            dlcore's time.
        share : float or None
            Its share of the limit.
        peers : dict of str to float
            The others' times.
        """
        if self.kind == "share":
            return None if share is None else share >= self.value
        if self.kind == "seconds":
            return seconds <= self.value
        peer = peers.get(self.peer) if self.peer else min(peers.values(), default=None)
        if peer is None:
            return None
        if self.kind == "above":
            return seconds <= peer + self.value
        return peer / seconds >= self.value


@dataclass(frozen=True)
class Case:
    """One row of the table.

    method, args
        What the adapters are asked for: `adapter.method(*args)`.
    flops, bytes : float
        Arithmetic and least memory traffic of one call (or step).
    limit : {"fma", "l2", "l3", "dram", None}
        Which limit of the machine the call is held against.
    targets : dict of threads to tuple of Target
    """

    name: str
    method: str
    args: tuple
    flops: float = 0
    bytes: float = 0
    limit: str | None = None
    targets: dict = field(default_factory=dict)

    def share(self, seconds, limits):
        """Which part of the limit (flop/s or bytes/s) the call reached; None if it has none."""
        if self.limit not in limits:
            return None
        return (self.flops if self.limit == "fma" else self.bytes) / seconds / limits[self.limit]


def share(value):
    return Target("share", value)


def ratio(value, peer=None):
    return Target("ratio", value, peer)


def both(*targets):
    return {1: targets, 2: targets}


def _gemm(m, n, k, targets, transposed="", limit="fma"):
    name = f"gemm {m}x{n}x{k}" + (f" t{transposed}" if transposed else "")
    return Case(name, "gemm", (m, n, k, transposed), 2 * m * n * k, 4 * k * n, limit, targets)


def _pointwise(f, value):
    n, target = 1_000_000, both(ratio(value))
    return [
        Case(f"{f} 1e6", "pointwise", (f, n), 0, 8 * n, "l3", target),
        Case(f"{f} 1e6 + gradient", "pointwise_grad", (f, n), 0, 16 * n, "l3", target),
    ]


def _conv(n, c, h, w, k, r, stride=1, pad=0, forward=(), gradients=(), first=False):
    """Convolution, and with gradients: not by x for the `first` layer. k None is depthwise."""
    shape = (n, c, h, w, k or c, r, stride, pad, 1 if k else c)
    p, q = ((size + 2 * pad - r) // stride + 1 for size in (h, w))
    x, y = n * h * w * c, n * p * q * (k or c)
    flops, limit = 2 * y * r * r * (c if k else 1), "fma" if k else "l3"
    name = f"conv {r}x{r}{f'/{stride}' if stride > 1 else ''} {n}x{h}x{w}x{c}"
    name += f" -> {k}" if k else " depthwise"
    passes = 2 if first else 3
    wanted = "wb" if first else "xwb"
    return [
        Case(name, "conv", (shape,), flops, 4 * (x + y), limit, {2: forward}),
        Case(
            name + (" + dw db" if first else " + gradients"),
            "conv_grad",
            (shape, wanted),
            passes * flops,
            4 * passes * (x + y),
            limit,
            {2: gradients},
        ),
    ]


def _layer(name, kind, shape, passes, gradient_passes, value):
    """A layer alone. Least traffic: `passes` times its input, with gradients more."""
    size, target = 4 * math.prod(shape), both(ratio(value))
    name += " " + "x".join(map(str, shape))
    return [
        Case(name, "layer", (kind, shape), 0, passes * size, "l3", target),
        Case(
            name + " + gradients",
            "layer_grad",
            (kind, shape),
            0,
            gradient_passes * size,
            "l3",
            target,
        ),
    ]


def _recurrent(kind, forward, gradients):
    """A recurrent layer at three shapes (T, B, I, U); `forward` and `gradients`: what to reach at
    each."""
    cases = []
    shapes = ((28, 64, 28, 128), (100, 32, 128, 256), (200, 128, 64, 64))
    for shape, f, g in zip(shapes, forward, gradients, strict=True):
        steps, rows, features, units = shape
        flops = 2 * steps * rows * (features + units) * GATES[kind] * units
        name = f"{kind} T{steps} b{rows} {features} -> {units}"
        cases += [
            Case(name, "recurrent", (kind, shape), flops, 0, "fma", {2: (ratio(f),)}),
            Case(
                f"{name} + gradients",
                "recurrent_grad",
                (kind, shape),
                3 * flops,
                0,
                "fma",
                {2: (ratio(g),)},
            ),
        ]
    return cases


def _attention(shape, value):
    """Causal attention of (B, T, heads, width); half of the scores count."""
    batch, steps, heads, width = shape
    flops, targets = 2 * batch * heads * steps**2 * width, {2: (ratio(value),)}
    name = f"attention b{batch} T{steps} {heads} x {width} causal"
    return [
        Case(name, "attention", (shape,), flops, 0, "fma", targets),
        Case(name + " + gradients", "attention_grad", (shape,), 3.5 * flops, 0, "fma", targets),
    ]


def _embedding(shape, values):
    """Rows of a table (V, D) by (N, T) ids, with the gradient of the whole table, and with an
    update of the rows that were used; `values`: what to reach by each."""
    size, width, rows, steps = shape
    used, name = 20 * width * rows * steps, f"embedding {size} x {width} b{rows} T{steps}"
    gradient, update = ({2: (ratio(value),)} for value in values)
    moved = 4 * width * size + used
    return [
        Case(f"{name} + gradient", "embedding_grad", (shape,), 0, moved, "l3", gradient),
        Case(f"{name} + SGD of its rows", "embedding_sgd", (shape,), 0, used, "l3", update),
    ]


def _train(name, sizes, batch, loss, targets):
    weights = [a * b for a, b in itertools.pairwise(sizes)]
    flops = 2 * batch * (3 * sum(weights) - weights[0])  # nobody needs the gradient of the data
    name = f"{name} {'-'.join(map(str, sizes))} b{batch}"
    return Case(name, "train", (sizes, batch, loss), flops, 0, "fma", targets)


def _net_flops(net):
    """(of a prediction, of a training step) for one image."""
    forward, first = 0, 0
    for kind, k, (h, w, c) in net_layers(net):
        if kind in ("conv", "conv_norm"):
            less = 2 if kind == "conv" else 0
            forward += 18 * (h - less) * (w - less) * c * k
            first = first or forward  # nobody needs the gradient of the data
        elif kind == "dense":
            forward += 2 * c * CLASSES
    return forward, 3 * forward - first


def _net(name, net, batch, value):
    flops = batch * _net_flops(net)[1]
    name = f"train {name} b{batch}"
    return Case(name, "train_net", (net, batch), flops, 0, "fma", {2: (ratio(value),)})


def _predict_net(name, net, batch, *targets):
    flops, name = batch * _net_flops(net)[0], f"predict {name} b{batch}"
    return Case(name, "predict_net", (net, batch), flops, 0, "fma", {2: targets})


def _train_sequences():
    """Whole steps of networks that read sequences."""

    def case(name, method, shape, batch, flops, value):
        targets = {2: (ratio(value),)}
        return Case(f"train {name} b{batch}", method, (shape, batch), flops, 0, "fma", targets)

    steps, features, units, classes = IMAGE_ROWS
    weights = (3 * units + 2 * features) * 4 * units  # nobody needs the gradient of the data
    rows = 2 * 64 * (steps * weights + 3 * units * classes)
    steps, _, width, units = REVIEWS
    reviews = 2 * 32 * steps * 3 * (width + units) * 4 * units
    steps, size, width, _, blocks = GPT
    weights = 3 * width * (12 * width * blocks + size) + 3.5 * steps * width * blocks
    return [
        case("LSTM 28x28 -> 128", "train_image_rows", IMAGE_ROWS, 64, rows, 1.35),
        case("embedding 20000 x 128 + LSTM 64 T200", "train_reviews", REVIEWS, 32, reviews, 2),
        case("GPT 4 x 128 T128", "train_gpt", GPT, 32, 2 * 32 * steps * weights, 1.3),
    ]


def _predict_step(features, units, microseconds):
    size = 16 * (features + units) * units
    name, targets = f"predict 1 step LSTM {units}", both(Target("seconds", 1e-6 * microseconds))
    return Case(name, "predict_step", (features, units), size / 2, size, "l2", targets)


def _predict(sizes, how, microseconds):
    size = 4 * sum(a * b for a, b in itertools.pairwise(sizes))
    name = f"{how} 1 row {'-'.join(map(str, sizes))}"
    targets = both(Target("seconds", 1e-6 * microseconds))
    return Case(name, "predict", (sizes, how), size / 2, size, "l2", targets)


SQUARE = {128: 0.85, 256: 0.92}  # share of two cores
MLP, SMALL, HOUSES = (784, 512, 512, 10), (784, 128, 10), (13, 64, 64, 1)

CASES = [
    _gemm(64, 64, 64, both(ratio(1.4, "numpy"))),
    *[_gemm(n, n, n, {2: (share(SQUARE[n]),)}) for n in (128, 256)],
    _gemm(512, 512, 512, {}),
    *[_gemm(n, n, n, {1: (share(0.93),), 2: (share(0.92),)}) for n in (1024, 2048)],
    _gemm(64, 512, 784, {2: (share(0.88),)}),
    _gemm(128, 512, 512, {2: (share(0.88),)}),
    _gemm(32, 128, 784, {2: (share(0.88),)}),
    _gemm(784, 512, 64, {2: (share(0.88),)}, "A"),
    _gemm(64, 784, 512, {2: (share(0.88),)}, "B"),
    _gemm(1, 4096, 4096, both(share(0.9)), limit="dram"),
    _gemm(32, 10, 128, both(ratio(1, "numpy"))),
    *_pointwise("relu", 1.0),
    *[case for f in ("exp", "tanh", "sigmoid", "gelu") for case in _pointwise(f, 1.5)],
    *[
        Case(
            f"softmax + cross-entropy {n}x{c} + gradient",
            "softmax_cross_entropy",
            (n, c),
            0,
            8 * n * c,
            limit,
            both(ratio(1.5)),
        )
        for n, c, limit in ((128, 1000, "l3"), (64, 10, None))
    ],
    *[
        case
        for n, c, h, k, pad in ((64, 32, 26, 64, 0), (64, 32, 13, 64, 0), (32, 64, 56, 64, 1))
        for case in _conv(n, c, h, h, k, 3, 1, pad, (share(0.93),), (share(0.85), ratio(1.1)))
    ],
    *_conv(32, 256, 14, 14, 256, 3, 1, 1, (share(0.93),), (share(0.85), ratio(1.1))),
    *_conv(64, 1, 28, 28, 32, 3, 1, 0, (ratio(1.5),), (ratio(5),), first=True),
    *_conv(64, 3, 32, 32, 32, 3, 1, 1, (), (ratio(2),)),
    *_conv(32, 3, 224, 224, 64, 7, 2, 3, (), (ratio(1.8),)),
    *_conv(32, 64, 56, 56, 256, 1, 1, 0, (ratio(1.1),), (ratio(1.3),)),
    *_conv(32, 128, 28, 28, None, 3, 1, 1, (ratio(1.3),), (ratio(2),)),
    # max-pool writes a quarter, and a byte for each of that, which its gradient reads. Moments of a
    # batch need a pass before the one that applies them, and so does their gradient.
    *_layer("max-pool 2x2", "max_pool", (64, 26, 26, 32), 1.25, 2.625, 1.5),
    *_layer("batch-norm", "batch_norm", (64, 28, 28, 64), 3, 8, 1.5),
    *_layer("layer-norm", "layer_norm", (4096, 768), 2, 5, 1.5),
    *_recurrent("lstm", (1.05, 1.05, 1.05), (1.2, 1.3, 2)),
    *_recurrent("gru", (2, 2, 2), (2, 2, 3)),
    *_attention((8, 512, 8, 64), 1.3),
    *_embedding((20000, 128, 32, 200), (1.5, 1)),
    Case("adam 1e6", "adam", (10**6,), 0, 28e6, "l3", both(ratio(1.8, "torch"))),
    Case("adam 2.5e7", "adam", (25 * 10**6,), 0, 700e6, "dram", both(ratio(0.97, "torch"))),
    *[
        _train("train", MLP, batch, "classes", {2: (ratio(value),)})
        for batch, value in ((32, 1.6), (128, 1.4), (512, 1.15))
    ],
    *[
        _train("train", SMALL, batch, "classes", {2: (ratio(value),)})
        for batch, value in ((32, 2.6), (128, 1.8))
    ],
    _train("train", HOUSES, 16, "mse", both(Target("seconds", 6e-6))),
    _net("MNIST convnet", "mnist", 128, 1.9),
    _net("CIFAR convnet", "cifar", 64, 1.35),
    *_train_sequences(),
    _predict_net("MNIST convnet", "mnist", 1, ratio(1, "onnxruntime")),
    _predict_net("MNIST convnet", "mnist", 64, ratio(1, "jax")),
    _predict_net("CIFAR convnet", "cifar", 1, ratio(1, "onnxruntime")),
    _predict((20, 32, 2), "predict", 6),
    _predict((20, 32, 2), "predict_on_batch", 3.5),
    _predict(SMALL, "predict", 8),
    _predict(SMALL, "predict_on_batch", 5),
    _predict_step(28, 128, 15),
    Case("import", "import_time", (), targets={1: (Target("above", 0.040, "numpy"),)}),
]
