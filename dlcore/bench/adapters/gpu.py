"""The libraries on a GPU: data lies there before the clock starts, and it stops when all is done.

All compute in true float32.
"""

import numpy as np

from .common import BATCHES, images, layer_arrays, normal, training_data
from .keras import Dlcore
from .torch import Torch

_DRAWN = 1_000_000  # numbers; larger arrays repeat them
_COPIED = 50_000_000  # floats of the copy that measures the memory: beyond any cache


def many(n, seed=0):
    """n numbers as `normal` draws them."""
    return np.resize(normal(min(n, _DRAWN), seed=seed), n)


class DlcoreGpu(Dlcore):
    """dlcore as DLCORE_DEVICE or DLCORE_BACKEND chooses."""

    def __init__(self, threads):
        super().__init__(threads)
        from dlcore import backends

        try:
            backends.gpu()
        except RuntimeError as error:
            raise ImportError(str(error)) from error
        self._there = backends.device_array
        self._probe = self._there(np.zeros(1, np.float32))

    def finish(self):
        self._probe.get()

    def gemm(self, m, n, k, transposed):
        a, b = self._there(normal(m, k)), self._there(normal(k, n, seed=1))
        return lambda: self.ops.matmul(a, b), 1

    def pointwise(self, name, n):
        x, f = self._there(many(n)), self._function(name)
        return lambda: f(x), 1

    def softmax(self, rows, columns):
        x = self._there(many(rows * columns).reshape(rows, columns))
        return lambda: self.ops.softmax(x), 1

    def layer(self, kind, shape):
        x, _, a, b = map(self._there, layer_arrays(kind, shape))
        call = self.keras.function(self._layer(kind))
        return lambda: call(x, a, b), 1

    def adam(self, n):
        w, m, v = (self.keras.Variable(many(n, i) ** 2) for i in range(3))
        g, ops = self._there(many(n, 3)), self.ops

        def update(g):
            new = ops.adam_update(w, g, m, v, 0.001, 0.1, 0.001, 1e-7)
            for variable, value in zip((w, m, v), new, strict=True):
                variable.assign(value)

        call = self.keras.function(update)
        return lambda: call(g), 1

    def train(self, sizes, batch, loss):
        x, y = map(self._there, training_data(sizes, loss))
        return self._fit(self._model(sizes, loss), x, y, batch), len(x) // batch

    def train_net(self, net, batch):
        x, y = map(self._there, images(net, BATCHES * batch))
        return self._fit(self._net(net), x, y, batch), BATCHES

    @staticmethod
    def _fit(model, x, y, batch):
        fit = {"batch_size": batch, "epochs": 1, "verbose": 0, "shuffle": True}
        return lambda: model.fit(x, y, **fit)


class TorchGpu(Torch):
    def __init__(self, threads):
        super().__init__(threads)
        if not self.torch.cuda.is_available():
            raise ImportError("torch: expected a GPU, found none")
        self.torch.set_default_device("cuda")
        self.torch.backends.cudnn.allow_tf32 = False  # as it is in products

    def finish(self):
        self.torch.cuda.synchronize()

    def _tensor(self, array):
        return self.torch.from_numpy(array).cuda()

    def pointwise(self, name, n):
        f, x = self._function(name), self._tensor(many(n))
        return self._inference(lambda: f(x)), 1

    def softmax(self, rows, columns):
        x = self._tensor(many(rows * columns).reshape(rows, columns))
        f = self.wrap(lambda x: self.torch.softmax(x, -1))
        return self._inference(lambda: f(x)), 1

    def adam(self, n):
        w = self._tensor(many(n)).requires_grad_()
        w.grad = self._tensor(many(n, 1))
        return self.torch.optim.Adam([w], fused=True).step, 1

    def limit(self, name):
        """Bytes/s of a copy inside the device's memory ("copy")."""
        x = self.torch.zeros(_COPIED)
        y = self.torch.empty_like(x)
        return _rate(lambda: y.copy_(x), self.finish)


class TorchGraphs(TorchGpu):
    """torch.compile with CUDA graphs."""

    def __init__(self, threads):
        super().__init__(threads)
        self.wrap = lambda f: self.torch.compile(f, mode="reduce-overhead")

    gemm = adam = None


class Cupy:
    """CuPy with its fused kernels."""

    modules = ("cupy",)

    def __init__(self, threads):
        import cupy

        if not cupy.cuda.is_available():
            raise ImportError("cupy: expected a GPU, found none")
        self.cupy, self.version = cupy, cupy.__version__

    def finish(self):
        self.cupy.cuda.get_current_stream().synchronize()

    def gemm(self, m, n, k, transposed):
        xp = self.cupy
        a, b = xp.asarray(normal(m, k)), xp.asarray(normal(k, n, seed=1))
        out = xp.empty((m, n), "float32")
        return lambda: xp.matmul(a, b, out=out), 1

    def pointwise(self, name, n):
        xp, x = self.cupy, self.cupy.asarray(many(n))
        formulas = {
            "relu": lambda x: xp.maximum(x, 0),
            "exp": lambda x: xp.exp(x),
            "gelu": lambda x: 0.5 * x * (1 + xp.tanh(0.7978845608 * (x + 0.044715 * x * x * x))),
        }
        f = xp.fuse(kernel_name=f"fused_{name}")(formulas[name])
        return lambda: f(x), 1

    def softmax(self, rows, columns):
        xp, x = self.cupy, self.cupy.asarray(many(rows * columns).reshape(rows, columns))

        def call():
            e = xp.exp(x - x.max(-1, keepdims=True))
            e /= e.sum(-1, keepdims=True)
            return e

        return call, 1

    def adam(self, n):
        xp = self.cupy
        w, g, m, v = (xp.asarray(many(n, i) ** 2) for i in range(4))

        @xp.fuse(kernel_name="fused_adam")
        def update(w, g, m, v):
            m = m + 0.1 * (g - m)
            v = v + 0.001 * (g * g - v)
            return w - 0.001 * m / (xp.sqrt(v) + 1e-7), m, v

        return lambda: update(w, g, m, v), 1

    def limit(self, name):
        """Bytes/s of a copy inside the device's memory ("copy")."""
        x = self.cupy.zeros(_COPIED, "float32")
        y = self.cupy.empty_like(x)
        return _rate(lambda: self.cupy.copyto(y, x), self.finish)


def _rate(copy, finish, copies=20):
    """Bytes read and written a second."""
    import time

    copy()
    finish()
    start = time.perf_counter()
    for _ in range(copies):
        copy()
    finish()
    return copies * 8 * _COPIED / (time.perf_counter() - start)
