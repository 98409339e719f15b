"""Libraries with the words of Keras: dlcore, and Keras on each of its backends."""

import os

import numpy as np

from .common import (
    BATCHES,
    CLASSES,
    NETS,
    attention_arrays,
    convolution,
    embedding_arrays,
    image_rows,
    images,
    layer_arrays,
    normal,
    operands,
    recurrent,
    reviews,
    tokens,
    training_data,
)


class KerasLike:
    """Training and prediction in Keras' words; `self.keras` is the library."""

    def _model(self, sizes, loss):
        keras = self.keras
        last = None if loss == "mse" else "softmax"
        hidden = [keras.layers.Dense(n, activation="relu") for n in sizes[1:-1]]
        output = keras.layers.Dense(sizes[-1], activation=last)
        model = keras.Sequential([keras.layers.Input((sizes[0],)), *hidden, output])
        model.compile("adam", "mse" if loss == "mse" else "sparse_categorical_crossentropy")
        return model

    def train(self, sizes, batch, loss):
        return self._epochs(self._model(sizes, loss), *training_data(sizes, loss), batch)

    @staticmethod
    def _epochs(model, x, y, batch):
        fit = {"batch_size": batch, "epochs": 1, "verbose": 0, "shuffle": True}
        return lambda: model.fit(x, y, **fit), len(x) // batch

    def predict(self, sizes, how):
        model, x = self._model(sizes, "classes"), normal(1, sizes[0])
        if how == "predict_on_batch":
            return lambda: model.predict_on_batch(x), 1
        return lambda: model.predict(x, verbose=0), 1

    def _net(self, net):
        layers = self.keras.layers
        shape, words = NETS[net]
        stack = [layers.Input(shape)]
        for kind, *filters in words:
            if kind == "conv":
                stack.append(layers.Conv2D(*filters, 3, activation="relu"))
            elif kind == "conv_norm":
                stack.append(layers.Conv2D(*filters, 3, padding="same", use_bias=False))
                stack += [layers.BatchNormalization(), layers.Activation("relu")]
            elif kind == "dense":
                stack.append(layers.Dense(CLASSES, activation="softmax"))
            else:
                stack.append(
                    {
                        "pool": layers.MaxPooling2D, "flatten": layers.Flatten,
                        "mean": layers.GlobalAveragePooling2D,
                        "dropout": lambda: layers.Dropout(0.5),
                    }[kind]()
                )  # fmt: skip
        model = self.keras.Sequential(stack)
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    def train_net(self, net, batch):
        return self._epochs(self._net(net), *images(net, BATCHES * batch), batch)

    def predict_net(self, net, batch):
        model, (x, _) = self._net(net), images(net, batch)
        return lambda: model.predict_on_batch(x), 1

    def train_image_rows(self, shape, batch):
        layers, (steps, features, units, classes) = self.keras.layers, shape
        model = self.keras.Sequential(
            [
                layers.Input((steps, features)),
                layers.LSTM(units),
                layers.Dense(classes, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy")
        return self._epochs(model, *image_rows(shape, BATCHES * batch), batch)

    def train_reviews(self, shape, batch):
        layers, (steps, size, width, units) = self.keras.layers, shape
        model = self.keras.Sequential(
            [
                layers.Input((steps,), dtype="int32"),
                layers.Embedding(size, width),
                layers.LSTM(units),
                layers.Dense(1, activation="sigmoid"),
            ]
        )
        model.compile("adam", "binary_crossentropy")
        return self._epochs(model, *reviews(shape, BATCHES * batch), batch)

    def train_gpt(self, shape, batch):
        keras, layers = self.keras, self.keras.layers
        steps, size, width, heads, blocks = shape

        class Positions(layers.Layer):
            def build(self, shape):
                self.table = self.add_weight(shape=shape[1:], initializer="uniform")

            def call(self, x):
                return x + self.table

        ids = layers.Input((steps,), dtype="int32")
        h = Positions()(layers.Embedding(size, width)(ids))
        for _ in range(blocks):
            a = layers.LayerNormalization()(h)
            attention = layers.MultiHeadAttention(heads, width // heads)
            h = layers.add([h, attention(a, a, use_causal_mask=True)])
            a = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(h))
            h = layers.add([h, layers.Dense(width)(a)])
        model = keras.Model(ids, layers.Dense(size)(layers.LayerNormalization()(h)))
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return self._epochs(model, *tokens(shape, BATCHES * batch), batch)

    def predict_step(self, features, units):
        layers, x = self.keras.layers, normal(1, 1, features)
        model = self.keras.Sequential(
            [layers.Input(batch_shape=x.shape), layers.LSTM(units, stateful=True)]
        )
        return lambda: model.predict_on_batch(x), 1


class Dlcore(KerasLike):
    modules = ("dlcore",)

    def __init__(self, threads):
        import dlcore

        self.keras, self.ops, self.version = dlcore, dlcore.ops, dlcore.__version__
        self._threads = threads

    def limit(self, name):
        """The machine's limit in flop/s ("fma") or bytes/s, measured now."""
        from dlcore.bench import machine

        return machine.limit(name, self._threads)

    def gemm(self, m, n, k, transposed):
        a, b = (x if x.flags.c_contiguous else x.T for x in operands(m, n, k, transposed))
        call, ops = self.ops.matmul, self.ops
        if transposed == "A":
            call = self.keras.function(lambda a, b: ops.matmul(ops.transpose(a), b))
        elif transposed == "B":
            call = self.keras.function(lambda a, b: ops.matmul(a, ops.transpose(b)))
        return lambda: call(a, b), 1

    def pointwise(self, name, n):
        x, f = normal(n), self._function(name)
        return lambda: f(x), 1

    def pointwise_grad(self, name, n):
        from dlcore.program import function, gradients

        f, ops = self._function(name), self.ops

        def both(x, dy):
            y = f(x)
            return y, gradients(ops.sum(y * dy), [x])[0]

        call, x, dy = function(both), normal(n), normal(n, seed=1)
        return lambda: call(x, dy), 1

    def _function(self, name):
        ops = self.ops
        return (lambda x: ops.gelu(x, approximate=True)) if name == "gelu" else getattr(ops, name)

    def softmax_cross_entropy(self, n, c):
        ops = self.ops
        call = self.keras.value_and_grad(
            lambda x, y: ops.mean(ops.sparse_softmax_cross_entropy(x, y))
        )
        x, y = normal(n, c), np.arange(n) % c
        return lambda: call(x, y), 1

    def _conv(self, shape):
        ops, (*_, stride, pad, groups) = self.ops, shape
        options = {"strides": stride, "padding": ((pad, pad),) * 2, "data_format": "channels_last"}
        if groups == 1:
            return lambda x, w: ops.conv(x, w, **options)
        return lambda x, w: ops.depthwise_conv(x, ops.swapaxes(w, 2, 3), **options)

    def conv(self, shape):
        x, w, _, _ = convolution(shape)
        call = self.keras.function(self._conv(shape))
        return lambda: call(x, w), 1

    def conv_grad(self, shape, wanted):
        from dlcore.program import function, gradients

        conv, ops = self._conv(shape), self.ops

        def both(x, w, b, dy):
            y = conv(x, w) + b
            by = [{"x": x, "w": w, "b": b}[name] for name in wanted]
            return y, *gradients(ops.sum(y * dy), by)

        call, arrays = function(both), convolution(shape)
        return lambda: call(*arrays), 1

    def _layer(self, kind):
        from dlcore.ops.normalization import normalize_channels

        ops = self.ops
        return {
            "max_pool": lambda x, a, b: ops.max_pool(x, 2),
            "batch_norm": lambda x, a, b: normalize_channels(kind, x, a, b, -1, 1e-3)[0],
            "layer_norm": lambda x, a, b: ops.layer_normalization(x, a, b, epsilon=1e-3),
        }[kind]

    def layer(self, kind, shape):
        x, _, a, b = layer_arrays(kind, shape)
        call = self.keras.function(self._layer(kind))
        return lambda: call(x, a, b), 1

    def layer_grad(self, kind, shape):
        from dlcore.program import function, gradients

        f, ops = self._layer(kind), self.ops
        x, dy, a, b = layer_arrays(kind, shape)

        def both(x, dy, a, b):
            y = f(x, a, b)
            return y, *gradients(ops.sum(y * dy), [x] if kind == "max_pool" else [x, a, b])

        call = function(both)
        return lambda: call(x, dy, a, b), 1

    def recurrent(self, kind, shape):
        f = getattr(self.ops, kind)
        call = self.keras.function(lambda x, w, u, b: f(x, w, u, b)[0])
        *arrays, _ = recurrent(kind, shape)
        return lambda: call(*arrays), 1

    def recurrent_grad(self, kind, shape):
        from dlcore.program import function, gradients

        f, ops = getattr(self.ops, kind), self.ops

        def both(x, w, u, b, dy):
            y = f(x, w, u, b)[0]
            return y, *gradients(ops.sum(y * dy), [x, w, u, b])

        call, arrays = function(both), recurrent(kind, shape)
        return lambda: call(*arrays), 1

    def _attention(self, q, k, v):
        return self.ops.dot_product_attention(q, k, v, is_causal=True)

    def attention(self, shape):
        call, arrays = self.keras.function(self._attention), attention_arrays(shape)[:3]
        return lambda: call(*arrays), 1

    def attention_grad(self, shape):
        from dlcore.program import function, gradients

        def both(q, k, v, dy):
            y = self._attention(q, k, v)
            return y, *gradients(self.ops.sum(y * dy), [q, k, v])

        call, arrays = function(both), attention_arrays(shape)
        return lambda: call(*arrays), 1

    def embedding_grad(self, shape):
        from dlcore.program import function, gradients

        def both(w, ids, dy):
            y = self.ops.take(w, ids, axis=0)
            return y, *gradients(self.ops.sum(y * dy), [w])

        call, arrays = function(both), embedding_arrays(shape)
        return lambda: call(*arrays), 1

    def embedding_sgd(self, shape):
        table, *arrays = embedding_arrays(shape)
        w, optimizer = self.keras.Variable(table), self.keras.optimizers.SGD(0.01)

        def step(ids, dy):
            y = self.ops.take(w, ids, axis=0)
            optimizer.apply(self.keras.gradients(self.ops.sum(y * dy), [w]), [w])
            return y

        call = self.keras.function(step)
        return lambda: call(*arrays), 1

    def adam(self, n):
        w, m, v = (self.keras.Variable(normal(n, seed=i) ** 2) for i in range(3))
        g, ops = normal(n, seed=3), self.ops

        def update(g):
            new = ops.adam_update(w, g, m, v, 0.001, 0.1, 0.001, 1e-7)
            for variable, value in zip((w, m, v), new, strict=True):
                variable.assign(value)

        call = self.keras.program.function(update)
        return lambda: call(g), 1


class Keras(KerasLike):
    modules = ("keras",)

    def __init__(self, threads, backend):
        os.environ["KERAS_BACKEND"] = backend
        if backend == "torch":
            import torch

            torch.set_num_threads(threads)
        if backend == "tensorflow":
            from .others import limit_tensorflow

            limit_tensorflow(threads)
        import keras

        self.keras, self.version = keras, keras.__version__


class KerasTorch(Keras):
    modules = ("keras", "torch")

    def __init__(self, threads):
        super().__init__(threads, "torch")


class KerasJax(Keras):
    modules = ("keras", "jax")

    def __init__(self, threads):
        super().__init__(threads, "jax")


class KerasTensorFlow(Keras):
    modules = ("keras", "tensorflow")

    def __init__(self, threads):
        super().__init__(threads, "tensorflow")
