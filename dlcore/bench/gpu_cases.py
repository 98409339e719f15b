"""What is measured on a GPU; see `cases`. Data lies on the device, all is float32."""

from dlcore.bench.cases import MLP, Case, _net, _train, ratio, share

_FLOATS = 100_000_000


def _one(*targets):
    return {1: targets}


def _memory(name, method, args, passes, n=_FLOATS):
    """A case that only moves memory: `passes` times n floats."""
    return Case(name, method, args, 0, 4 * passes * n, "copy", _one(share(0.85)))


def _gemm(n):
    name = f"gemm {n}x{n}x{n}"
    return Case(name, "gemm", (n, n, n, ""), 2 * n**3, 0, None, _one(ratio(0.9, "cupy")))


def _step(case, *targets):
    return Case(case.name, case.method, case.args, case.flops, 0, None, _one(*targets))


_AGAINST_TORCH = ratio(3, "torch"), ratio(1.2, "torch.graphs")

GPU_CASES = [
    *map(_gemm, (1024, 4096, 8192)),
    *[_memory(f"{f} 1e8", "pointwise", (f, _FLOATS), 2) for f in ("relu", "exp", "gelu")],
    _memory("softmax 1e5 x 1000", "softmax", (100_000, 1000), 2),
    _memory("layer-norm 1e5 x 1000", "layer", ("layer_norm", (100_000, 1000)), 2),
    _memory("batch-norm 1024 x 28 x 28 x 128", "layer", ("batch_norm", (1024, 28, 28, 128)), 3,
            1024 * 28 * 28 * 128),
    _memory("adam 1e8", "adam", (_FLOATS,), 7),
    _step(_train("train", MLP, 128, "classes", {}), *_AGAINST_TORCH),
    _step(_net("MNIST convnet", "mnist", 128, 1), *_AGAINST_TORCH),
    _step(_net("CIFAR convnet", "cifar", 512, 1), ratio(1, "torch.graphs")),
]  # fmt: skip
