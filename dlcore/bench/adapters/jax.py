import numpy as np

from .common import (
    BATCHES,
    attention_arrays,
    convolution,
    embedding_arrays,
    image_rows,
    images,
    layer_arrays,
    net_layers,
    net_weights,
    normal,
    recurrent,
    reviews,
    tokens,
    training_data,
    weights,
)


class Jax:
    modules = ("jax",)

    def __init__(self, threads):
        import jax

        self.jax, self.np, self.version = jax, jax.numpy, jax.__version__

    def _call(self, f, *arrays):
        f, arrays = self.jax.jit(f), [self.jax.device_put(a) for a in arrays]
        return lambda: self.jax.block_until_ready(f(*arrays)), 1

    def gemm(self, m, n, k, transposed):
        if transposed == "A":
            return self._call(lambda a, b: a.T @ b, normal(k, m), normal(k, n))
        if transposed == "B":
            return self._call(lambda a, b: a @ b.T, normal(m, k), normal(n, k))
        return self._call(lambda a, b: a @ b, normal(m, k), normal(k, n))

    def _function(self, name):
        nn = self.jax.nn
        if name == "gelu":
            return lambda x: nn.gelu(x, approximate=True)
        return getattr(nn if name in ("relu", "sigmoid") else self.np, name)

    def pointwise(self, name, n):
        return self._call(self._function(name), normal(n))

    def pointwise_grad(self, name, n):
        f = self._function(name)

        def both(x, dy):
            y, back = self.jax.vjp(f, x)
            return y, back(dy)[0]

        return self._call(both, normal(n), normal(n, seed=1))

    def _classes(self, x, y):
        p = self.jax.nn.log_softmax(x)
        return -self.np.take_along_axis(p, y[:, None], 1).mean()

    def softmax_cross_entropy(self, n, c):
        y = (np.arange(n) % c).astype(np.int32)
        return self._call(self.jax.value_and_grad(self._classes), normal(n, c), y)

    def _conv(self, shape):
        *_, stride, pad, groups = shape
        names = ("NHWC", "HWIO", "NHWC")
        return lambda x, w: self.jax.lax.conv_general_dilated(
            x, w, (stride,) * 2, ((pad, pad),) * 2,
            dimension_numbers=names, feature_group_count=groups,
        )  # fmt: skip

    def conv(self, shape):
        x, w, _, _ = convolution(shape)
        return self._call(self._conv(shape), x, w)

    def conv_grad(self, shape, wanted):
        conv, positions = self._conv(shape), ["xwb".index(name) for name in wanted]

        def both(x, w, b, dy):
            y, back = self.jax.vjp(lambda x, w, b: conv(x, w) + b, x, w, b)
            grads = back(dy)
            return y, [grads[i] for i in positions]

        return self._call(both, *convolution(shape))

    def _layer(self, kind):
        lax = self.jax.lax

        def normalize(x, a, b, axes):
            mean = x.mean(axes, keepdims=True)
            inv = lax.rsqrt(((x - mean) ** 2).mean(axes, keepdims=True) + 1e-3)
            return (x - mean) * (inv * a) + b

        window = (1, 2, 2, 1)
        return {
            "max_pool": lambda x, a, b: lax.reduce_window(
                x, -np.inf, lax.max, window, window, "VALID"
            ),
            "batch_norm": lambda x, a, b: normalize(x, a, b, (0, 1, 2)),
            "layer_norm": lambda x, a, b: normalize(x, a, b, (-1,)),
        }[kind]

    def layer(self, kind, shape):
        x, _, a, b = layer_arrays(kind, shape)
        return self._call(self._layer(kind), x, a, b)

    def layer_grad(self, kind, shape):
        f = self._layer(kind)

        def both(x, dy, a, b):
            y, back = self.jax.vjp(f, x, a, b)
            return y, back(dy)[: 1 if kind == "max_pool" else 3]

        return self._call(both, *layer_arrays(kind, shape))

    def _recurrent(self, kind):
        jax, np_ = self.jax, self.jax.numpy

        def lstm(u, state, z):
            h, c = state
            i, f, g, o = np_.split(z + h @ u, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * np_.tanh(g)
            h = jax.nn.sigmoid(o) * np_.tanh(c)
            return (h, c), h

        def gru(u, state, x):
            (h,) = state
            x, s = np_.split(x, 3, axis=1), np_.split(h @ u, 3, axis=1)
            z, r = jax.nn.sigmoid(x[0] + s[0]), jax.nn.sigmoid(x[1] + s[1])
            h = z * h + (1 - z) * np_.tanh(x[2] + r * s[2])
            return (h,), h

        step, states = {"lstm": (lstm, 2), "gru": (gru, 1)}[kind]

        def run(x, w, u, b):
            first = (np_.zeros((x.shape[0], u.shape[0]), x.dtype),) * states
            z = np_.swapaxes(x @ w + b, 0, 1)
            _, y = jax.lax.scan(lambda state, z: step(u, state, z), first, z)
            return np_.swapaxes(y, 0, 1)

        return run

    def recurrent(self, kind, shape):
        *arrays, _ = recurrent(kind, shape)
        return self._call(self._recurrent(kind), *arrays)

    def recurrent_grad(self, kind, shape):
        run = self._recurrent(kind)

        def both(dy, *arrays):
            y, back = self.jax.vjp(run, *arrays)
            return y, back(dy)

        *arrays, dy = recurrent(kind, shape)
        return self._call(both, dy, *arrays)

    def _attention(self, q, k, v):
        return self.jax.nn.dot_product_attention(q, k, v, is_causal=True)

    def attention(self, shape):
        return self._call(self._attention, *attention_arrays(shape)[:3])

    def attention_grad(self, shape):
        def both(q, k, v, dy):
            y, back = self.jax.vjp(self._attention, q, k, v)
            return y, back(dy)

        return self._call(both, *attention_arrays(shape))

    def embedding_grad(self, shape):
        def both(w, ids, dy):
            y, back = self.jax.vjp(lambda w: w[ids], w)
            return y, back(dy)

        return self._call(both, *embedding_arrays(shape))

    def embedding_sgd(self, shape):
        w, ids, dy = map(self.jax.device_put, embedding_arrays(shape))
        step = self.jax.jit(
            lambda w, ids, dy: (w.at[ids].add(-0.01 * dy), w[ids]), donate_argnums=0
        )

        def call():
            nonlocal w
            w, y = step(w, ids, dy)
            self.jax.block_until_ready((w, y))

        return call, 1

    def _adam(self, w, g, m, v, rate):
        m = m + (g - m) * 0.1
        v = v + (g * g - v) * 0.001
        return w - rate * m / (self.np.sqrt(v) + 1e-7), m, v

    def adam(self, n):
        def step(w, g, m, v):
            return self._adam(w, g, m, v, 0.001)

        step = self.jax.jit(step, donate_argnums=(0, 2, 3))
        g = self.jax.device_put(normal(n, seed=1))
        state = [self.jax.device_put(normal(n, seed=i) ** 2) for i in range(3)]

        def call():
            state[:] = step(state[0], g, *state[1:])
            state[0].block_until_ready()

        return call, 1

    def _forward(self, layers, x):
        for w, b in layers[:-1]:
            x = self.jax.nn.relu(x @ w + b)
        return x @ layers[-1][0] + layers[-1][1]

    def train(self, sizes, batch, loss):
        x, y = training_data(sizes, loss)
        y = y if loss == "mse" else y.astype(np.int32)

        def cost(w, x, y):
            out = self._forward(w, x)
            return ((out - y) ** 2).mean() if loss == "mse" else self._classes(out, y)

        return self._epochs(cost, weights(sizes), x, y, batch)

    def _epochs(self, cost, w, x, y, batch):
        """Epochs of steps of Adam on cost(w, x, y)."""
        tree_map, transpose = self.jax.tree_util.tree_map, self.jax.tree_util.tree_transpose
        x, y = self.jax.device_put((x, y))
        w = tree_map(self.np.asarray, w)
        state = [w, tree_map(self.np.zeros_like, w), tree_map(self.np.zeros_like, w), 0]

        outer = self.jax.tree_util.tree_structure(w)
        inner = self.jax.tree_util.tree_structure((0, 0, 0))

        def step(w, m, v, t, rows):
            _, g = self.jax.value_and_grad(cost)(w, x[rows], y[rows])
            rate = 0.001 * self.np.sqrt(1 - 0.999 ** (t + 1)) / (1 - 0.9 ** (t + 1))
            new = tree_map(lambda *a: self._adam(*a, rate), w, g, m, v)
            return (*transpose(outer, inner, new), t + 1)

        step, rng = self.jax.jit(step, donate_argnums=(0, 1, 2)), np.random.default_rng(0)

        def epoch():
            for rows in rng.permutation(len(x)).astype(np.int32).reshape(-1, batch):
                state[:] = step(*state, rows)
            self.jax.block_until_ready(state)

        return epoch, len(x) // batch

    def _net(self, net, w, x, training):
        """The network; moving statistics are left out of the training."""
        np, lax, order = self.np, self.jax.lax, ("NHWC", "HWIO", "NHWC")
        w = iter(w)
        for kind, _, _ in net_layers(net):
            if kind == "conv":
                kernel, b = next(w)
                x = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=order)
                x = self.jax.nn.relu(x + b)
            elif kind == "conv_norm":
                kernel, scale, shift, mean, variance = next(w)
                x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=order)
                if training:
                    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
                x = (x - mean) * (scale * lax.rsqrt(variance + 1e-3)) + shift
                x = self.jax.nn.relu(x)
            elif kind == "pool":
                size = (1, 2, 2, 1)
                x = lax.reduce_window(x, -np.inf, lax.max, size, size, "VALID")
            elif kind == "mean":
                x = x.mean((1, 2))
            elif kind == "flatten":
                x = x.reshape(len(x), -1)
            elif kind == "dropout":
                if training:
                    key = self.jax.random.key(x.shape[0])
                    x = np.where(self.jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)
            else:
                kernel, b = next(w)
                x = x @ kernel + b
        return x

    def train_net(self, net, batch):
        x, y = images(net, BATCHES * batch)

        def cost(w, x, y):
            return self._classes(self._net(net, w, x, True), y)

        return self._epochs(cost, net_weights(net), x, y.astype(np.int32), batch)

    def _last_state(self, w, x):
        """What an LSTM and a dense layer make of x."""
        return self._recurrent("lstm")(x, *w["lstm"])[:, -1] @ w["dense"] + w["bias"]

    @staticmethod
    def _lstm_weights(features, units, outputs):
        _, *lstm, _ = recurrent("lstm", (1, 1, features, units))
        dense = normal(units, outputs) / np.float32(np.sqrt(units))
        return {"lstm": lstm, "dense": dense, "bias": np.zeros(outputs, np.float32)}

    def train_image_rows(self, shape, batch):
        x, y = image_rows(shape, BATCHES * batch)

        def cost(w, x, y):
            return self._classes(self._last_state(w, x), y)

        return self._epochs(cost, self._lstm_weights(*shape[1:]), x, y.astype(np.int32), batch)

    def train_reviews(self, shape, batch):
        _, size, width, units = shape
        w = self._lstm_weights(width, units, 1) | {"table": normal(size, width)}

        def cost(w, x, y):
            z = self._last_state(w, w["table"][x])
            return (self.jax.nn.softplus(z) - y * z).mean()

        return self._epochs(cost, w, *reviews(shape, BATCHES * batch), batch)

    def _normalize(self, x, scale):
        mean = x.mean(-1, keepdims=True)
        inv = self.jax.lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-3)
        return (x - mean) * inv * scale[0] + scale[1]

    def _gpt(self, w, ids, heads):
        """Logits; matrices carry their biases as a last row."""
        nn = self.jax.nn
        h = w["words"][ids] + w["places"]

        def dense(x, w):
            return x @ w[:-1] + w[-1]

        for b in w["blocks"]:
            qkv = dense(self._normalize(h, b["norm"][0]), b["qkv"])
            q, k, v = self.np.split(qkv.reshape(*h.shape[:2], 3 * heads, -1), 3, axis=2)
            y = nn.dot_product_attention(q, k, v, is_causal=True)
            h = h + dense(y.reshape(h.shape), b["out"])
            a = nn.gelu(dense(self._normalize(h, b["norm"][1]), b["up"]), approximate=False)
            h = h + dense(a, b["down"])
        return dense(self._normalize(h, w["norm"]), w["head"])

    def train_gpt(self, shape, batch):
        steps, size, width, heads, blocks = shape

        def matrix(a, b):
            return normal(a + 1, b) / np.float32(np.sqrt(a))

        def norm(*lead):
            one = np.ones((*lead, width), np.float32)
            return np.stack([one, 0 * one], axis=-2)

        sizes = {"qkv": (1, 3), "out": (1, 1), "up": (1, 4), "down": (4, 1)}
        w = {
            "words": normal(size, width), "places": normal(steps, width), "norm": norm(),
            "head": matrix(width, size),
            "blocks": [
                {k: matrix(a * width, b * width) for k, (a, b) in sizes.items()} | {"norm": norm(2)}
                for _ in range(blocks)
            ],
        }  # fmt: skip

        def cost(w, x, y):
            return self._classes(self._gpt(w, x, heads).reshape(-1, size), y.reshape(-1))

        return self._epochs(cost, w, *tokens(shape, BATCHES * batch), batch)

    def predict_step(self, features, units):
        w = self._lstm_weights(features, units, 1)["lstm"]
        x, state = normal(1, features), (np.zeros((1, units), np.float32),) * 2

        def step(x, h, c):
            i, f, g, o = self.np.split(x @ w[0] + h @ w[1] + w[2], 4, axis=1)
            s = self.jax.nn.sigmoid
            c = s(f) * c + s(i) * self.np.tanh(g)
            return s(o) * self.np.tanh(c), c

        f = self.jax.jit(step)

        def call():
            nonlocal state
            state = f(x, *state)
            return np.asarray(state[0])

        return call, 1

    def predict_net(self, net, batch):
        w, (x, _) = self.jax.device_put(net_weights(net)), images(net, batch)
        f = self.jax.jit(lambda x: self.jax.nn.softmax(self._net(net, w, x, False)))
        return lambda: np.asarray(f(x)), 1

    def predict(self, sizes, how):
        layers, x = self.jax.device_put(weights(sizes)), normal(1, sizes[0])
        f = self.jax.jit(lambda x: self.jax.nn.softmax(self._forward(layers, x)))
        return lambda: np.asarray(f(x)), 1
