import numpy as np

from .common import (
    convolution,
    images,
    net_layers,
    net_weights,
    normal,
    operands,
    training_data,
    weights,
)


class NumPy:
    """The formulas as one writes them with NumPy, in place where that is faster."""

    modules = ("numpy",)

    def __init__(self, threads):
        self.version = np.__version__

    def gemm(self, m, n, k, transposed):
        a, b = operands(m, n, k, transposed)
        out = np.empty((m, n), np.float32)
        return lambda: np.matmul(a, b, out=out), 1

    def pointwise(self, name, n):
        x, f = normal(n), getattr(self, "_" + name)
        out = np.empty_like(x)
        return lambda: f(x, out), 1

    def pointwise_grad(self, name, n):
        x, dy, f = normal(n), normal(n, seed=1), getattr(self, "_" + name)
        grad, out = getattr(self, f"_{name}_grad"), np.empty(n, np.float32)
        return lambda: grad(x, f(x, out), dy), 1

    def _relu(self, x, out):
        return np.maximum(x, 0, out=out)

    def _relu_grad(self, x, y, dy):
        return dy * (y > 0)

    def _exp(self, x, out):
        return np.exp(x, out=out)

    def _exp_grad(self, x, y, dy):
        return dy * y

    def _tanh(self, x, out):
        return np.tanh(x, out=out)

    def _tanh_grad(self, x, y, dy):
        return dy * (1 - y * y)

    def _sigmoid(self, x, out):
        np.exp(np.negative(x, out=out), out=out)
        out += 1
        return np.reciprocal(out, out=out)

    def _sigmoid_grad(self, x, y, dy):
        return dy * (y * (1 - y))

    def _gelu(self, x, out):
        np.tanh(0.7978845608 * (x + 0.044715 * x * x * x), out=out)
        out += 1
        out *= x
        out *= 0.5
        return out

    def _gelu_grad(self, x, y, dy):
        t = np.tanh(0.7978845608 * (x + 0.044715 * x * x * x))
        slope = 0.7978845608 * (1 + 0.134145 * x * x)
        return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)

    def conv(self, shape):
        x, w, _, _ = convolution(shape)
        return lambda: self._conv(shape, x, w), 1

    @staticmethod
    def _taps(shape, x):
        """(position in the filter, the pixels that it meets) for a padded x."""
        _, _, h, w, _, r, stride, pad, _ = shape
        p, q = ((size + 2 * pad - r) // stride + 1 for size in (h, w))
        for i in range(r):
            for j in range(r):
                rows = slice(i, i + (p - 1) * stride + 1, stride)
                yield (i, j), x[:, rows, j : j + (q - 1) * stride + 1 : stride]

    def _conv(self, shape, x, w):
        pad, groups = shape[-2:]
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        product = np.matmul if groups == 1 else lambda a, b: a * b[0]
        return sum(product(a, w[at]) for at, a in self._taps(shape, x))

    def conv_grad(self, shape, wanted):
        x, w, b, dy = convolution(shape)
        pad, groups = shape[-2:]
        dw, rows = np.empty_like(w), dy.reshape(-1, dy.shape[-1])

        def call():
            y = self._conv(shape, x, w) + b
            padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
            dx = np.zeros_like(padded)
            for (at, a), (_, da) in zip(
                self._taps(shape, padded), self._taps(shape, dx), strict=True
            ):
                if groups == 1:
                    dw[at] = a.reshape(-1, a.shape[-1]).T @ rows
                    if "x" in wanted:
                        da += dy @ w[at].T
                else:
                    dw[at] = (a * dy).sum((0, 1, 2))
                    da += dy * w[at][0]
            return y, dx[:, pad : dx.shape[1] - pad, pad : dx.shape[2] - pad], dw, dy.sum((0, 1, 2))

        return call, 1

    def softmax_cross_entropy(self, n, c):
        x, y = normal(n, c), np.arange(n) % c
        return lambda: self._classes(x, y), 1

    @staticmethod
    def _classes(x, y):
        """Mean cross-entropy and its gradient."""
        rows = np.arange(len(y))
        p = np.exp(x - x.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        loss = -np.log(p[rows, y]).mean()
        p[rows, y] -= 1
        p /= len(y)
        return loss, p

    @staticmethod
    def _mse(x, y):
        d = x - y
        return (d * d).mean(), d * (2 / d.size)

    def adam(self, n):
        w, g, m, v = (normal(n, seed=i) ** 2 for i in range(4))
        return lambda: self._adam(w, g, m, v, 0.001), 1

    @staticmethod
    def _adam(w, g, m, v, rate):
        m += (g - m) * np.float32(0.1)
        v += (g * g - v) * np.float32(0.001)
        w -= rate * m / (np.sqrt(v) + np.float32(1e-7))

    def train(self, sizes, batch, loss):
        x, y = training_data(sizes, loss)
        layers, last = weights(sizes), self._mse if loss == "mse" else self._classes
        slots = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer] for layer in layers]
        rng, steps = np.random.default_rng(0), len(x) // batch

        def step(rows):
            values = [x[rows]]
            for w, b in layers[:-1]:
                values.append(np.maximum(values[-1] @ w + b, 0))
            d = last(values[-1] @ layers[-1][0] + layers[-1][1], y[rows])[1]
            for i in reversed(range(len(layers))):
                grads = (values[i].T @ d, d.sum(0))
                if i:
                    d = (d @ layers[i][0].T) * (values[i] > 0)
                for w, g, (m, v) in zip(layers[i], grads, slots[i], strict=True):
                    self._adam(w, g, m, v, np.float32(0.001))

        def epoch():
            order = rng.permutation(len(x))
            for i in range(steps):
                step(order[i * batch : (i + 1) * batch])

        return epoch, steps

    def predict_net(self, net, batch):
        x, layers, arrays = images(net, batch)[0], net_layers(net), net_weights(net)

        def call():
            y, w = x, iter(arrays)
            for kind, k, (height, width, c) in layers:
                shape = (batch, c, height, width, k, 3, 1, int(kind == "conv_norm"), 1)
                if kind == "conv":
                    kernel, b = next(w)
                    y = np.maximum(self._conv(shape, y, kernel) + b, 0)
                elif kind == "conv_norm":
                    kernel, scale, shift, mean, variance = next(w)
                    scale = scale / np.sqrt(variance + np.float32(1e-3))
                    y = np.maximum((self._conv(shape, y, kernel) - mean) * scale + shift, 0)
                elif kind == "pool":
                    height, width = height // 2, width // 2
                    y = y[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, c)
                    y = y.max((2, 4))
                elif kind == "mean":
                    y = y.mean((1, 2))
                elif kind == "flatten":
                    y = y.reshape(batch, -1)
                elif kind == "dense":
                    kernel, b = next(w)
                    p = np.exp(y @ kernel + b)
                    y = p / p.sum(1, keepdims=True)
            return y

        return call, 1

    def predict(self, sizes, how):
        layers, x = weights(sizes), normal(1, sizes[0])

        def call():
            h = x
            for w, b in layers[:-1]:
                h = np.maximum(h @ w + b, 0)
            p = np.exp(h @ layers[-1][0] + layers[-1][1])
            return p / p.sum()

        return call, 1
