import numpy as np

from .common import (
    convolution,
    embedding_arrays,
    images,
    layer_arrays,
    net_layers,
    net_weights,
    normal,
    operands,
    recurrent,
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

    @staticmethod
    def _tiles(x):
        """x (N, H, W, C) as (N, H / 2, W / 2, 4, C): the 2 x 2 windows of a pooling."""
        n, h, w, c = x.shape
        tiles = x.reshape(n, h // 2, 2, w // 2, 2, c).swapaxes(2, 3)
        return tiles.reshape(n, h // 2, w // 2, 4, c)

    def _layer(self, kind, x, a, b):
        """(y, what the gradient needs)"""
        if kind == "max_pool":
            tiles = self._tiles(x)
            return tiles.max(3), tiles
        axes = (0, 1, 2) if kind == "batch_norm" else -1
        centered = x - x.mean(axes, keepdims=True)
        inv = 1 / np.sqrt((centered**2).mean(axes, keepdims=True) + 1e-3)
        centered *= inv
        return centered * a + b, (centered, inv, axes)

    def layer(self, kind, shape):
        x, _, a, b = layer_arrays(kind, shape)
        return lambda: self._layer(kind, x, a, b)[0], 1

    def layer_grad(self, kind, shape):
        x, dy, a, b = layer_arrays(kind, shape)

        def call():
            y, kept = self._layer(kind, x, a, b)
            if kind == "max_pool":
                n, h, w, c = x.shape
                first = kept.argmax(3)[:, :, :, None]
                dx = np.zeros_like(kept)
                np.put_along_axis(dx, first, dy[:, :, :, None], 3)
                dx = dx.reshape(n, h // 2, w // 2, 2, 2, c).swapaxes(2, 3)
                return y, dx.reshape(x.shape)
            normal, inv, axes = kept
            rows, g = tuple(range(x.ndim - 1)), dy * a
            dx = g - g.mean(axes, keepdims=True)
            dx -= normal * (g * normal).mean(axes, keepdims=True)
            return y, dx * inv, (dy * normal).sum(rows), dy.sum(rows)

        return call, 1

    def recurrent(self, kind, shape):
        *arrays, _ = recurrent(kind, shape)
        return lambda: self._recurrent(kind, *arrays)[0], 1

    @staticmethod
    def _sigmoid_of(x):
        return 1 / (1 + np.exp(-x))

    def _recurrent(self, kind, x, w, u, b):
        """All outputs, and for each step what its gradient needs."""
        sigmoid, z = self._sigmoid_of, x @ w + b
        h = c = np.zeros((x.shape[0], u.shape[0]), np.float32)
        y, steps = np.empty((*x.shape[:2], u.shape[0]), np.float32), []
        for t in range(x.shape[1]):
            if kind == "lstm":
                i, f, g, o = np.split(z[:, t] + h @ u, 4, axis=1)
                i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
                before, c = c, f * c + i * g
                steps.append((h, i, f, g, o, before, np.tanh(c)))
                h = o * steps[-1][-1]
            else:
                a, s = np.split(z[:, t], 3, axis=1), np.split(h @ u, 3, axis=1)
                v, r = sigmoid(a[0] + s[0]), sigmoid(a[1] + s[1])
                g = np.tanh(a[2] + r * s[2])
                steps.append((h, v, r, g, s[2]))
                h = v * h + (1 - v) * g
            y[:, t] = h
        return y, steps

    def predict_step(self, features, units):
        x, w, u, b, _ = recurrent("lstm", (1, 1, features, units))
        x, sigmoid = x[:, 0], self._sigmoid_of
        h = c = np.zeros((1, units), np.float32)

        def call():
            nonlocal h, c
            i, f, g, o = np.split(x @ w + h @ u + b, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            return h

        return call, 1

    @staticmethod
    def _lstm_grad(step, dh, dc):
        """Gradients of x w + b, of h u, and of the cell before."""
        _, i, f, g, o, before, tanh_c = step
        dc = dc + dh * o * (1 - tanh_c**2)
        gates = (
            dc * g * i * (1 - i),
            dc * before * f * (1 - f),
            dc * i * (1 - g**2),
            dh * tanh_c * o * (1 - o),
        )
        dz = np.concatenate(gates, axis=1)
        return dz, dz, 0, dc * f

    @staticmethod
    def _gru_grad(step, dh, dc):
        h, v, r, g, s = step
        dg = dh * (1 - v) * (1 - g**2)
        dr, dv = dg * s * r * (1 - r), dh * (h - g) * v * (1 - v)
        return np.hstack((dv, dr, dg)), np.hstack((dv, dr, dg * r)), dh * v, dc

    def recurrent_grad(self, kind, shape):
        x, w, u, b, dy = recurrent(kind, shape)
        back = {"lstm": self._lstm_grad, "gru": self._gru_grad}[kind]

        def call():
            y, steps = self._recurrent(kind, x, w, u, b)
            dz, du = np.empty((*x.shape[:2], w.shape[1]), np.float32), np.zeros_like(u)
            dh = dc = np.float32(0)
            for t in range(x.shape[1])[::-1]:
                dz[:, t], ds, direct, dc = back(steps[t], dy[:, t] + dh, dc)
                du += steps[t][0].T @ ds
                dh = ds @ u.T + direct
            rows = dz.reshape(-1, dz.shape[2])
            return y, dz @ w.T, x.reshape(-1, x.shape[2]).T @ rows, du, rows.sum(0)

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

    def embedding_grad(self, shape):
        w, ids, dy = embedding_arrays(shape)

        def call():
            dw = np.zeros_like(w)
            np.add.at(dw, ids, dy)
            return w[ids], dw

        return call, 1

    def embedding_sgd(self, shape):
        w, ids, dy = embedding_arrays(shape)

        def call():
            y = w[ids]
            np.subtract.at(w, ids, np.float32(0.01) * dy)
            return y

        return call, 1

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
