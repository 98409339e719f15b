import itertools

import numpy as np

from .common import (
    BATCHES,
    CLASSES,
    attention_arrays,
    convolution,
    embedding_arrays,
    image_rows,
    images,
    layer_arrays,
    net_layers,
    normal,
    operands,
    recurrent,
    reviews,
    tokens,
    training_data,
)


class Torch:
    modules = ("torch",)

    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.version = torch, torch.__version__
        self.wrap = lambda f: f

    def _tensor(self, array):
        return self.torch.from_numpy(array)

    def gemm(self, m, n, k, transposed):
        a, b = (self._tensor(array) for array in operands(m, n, k, transposed))
        out = self.torch.empty(m, n)
        return self._inference(lambda: self.torch.mm(a, b, out=out)), 1

    def _inference(self, f):
        def call():
            with self.torch.inference_mode():
                return f()

        return call

    def _function(self, name):
        if name == "gelu":
            gelu = self.torch.nn.functional.gelu
            return self.wrap(lambda x: gelu(x, approximate="tanh"))
        return self.wrap(getattr(self.torch, name))

    def pointwise(self, name, n):
        f, x = self._function(name), self._tensor(normal(n))
        return self._inference(lambda: f(x)), 1

    def pointwise_grad(self, name, n):
        f, dy = self._function(name), self._tensor(normal(n, seed=1))
        x = self._tensor(normal(n)).requires_grad_()

        def call():
            x.grad = None
            f(x).backward(dy)

        return call, 1

    def softmax_cross_entropy(self, n, c):
        f = self.wrap(self.torch.nn.functional.cross_entropy)
        x = self._tensor(normal(n, c)).requires_grad_()
        y = self._tensor(np.arange(n) % c)

        def call():
            x.grad = None
            f(x, y).backward()

        return call, 1

    def _conv(self, shape):
        """(call, x, w, b, dy) with images in torch's channels-last order."""
        *_, stride, pad, groups = shape
        x, w, b, dy = (self._tensor(array) for array in convolution(shape))
        last = self.torch.channels_last
        x, dy = (t.permute(0, 3, 1, 2).contiguous(memory_format=last) for t in (x, dy))
        w = w.permute(3, 2, 0, 1).contiguous(memory_format=last)
        conv = self.torch.nn.functional.conv2d
        return lambda x, w, b=None: conv(x, w, b, stride, pad, 1, groups), x, w, b, dy

    def conv(self, shape):
        conv, x, w, _, _ = self._conv(shape)
        return self._inference(lambda: conv(x, w)), 1

    def conv_grad(self, shape, wanted):
        conv, x, w, b, dy = self._conv(shape)
        inputs = [{"x": x, "w": w, "b": b}[name].requires_grad_() for name in wanted]
        return lambda: self.torch.autograd.grad(conv(x, w, b), inputs, dy), 1

    def _layer(self, kind, shape):
        """(call, x, dy, scale, shift) with images in torch's channels-last order."""
        F = self.torch.nn.functional
        x, dy, a, b = (self._tensor(array) for array in layer_arrays(kind, shape))
        if len(shape) == 4:
            x, dy = (t.permute(0, 3, 1, 2) for t in (x, dy))
        moving = self.torch.zeros(shape[-1]), self.torch.ones(shape[-1])
        call = {
            "max_pool": lambda x, a, b: F.max_pool2d(x, 2),
            "batch_norm": lambda x, a, b: F.batch_norm(x, *moving, a, b, True, 0.01, 1e-3),
            "layer_norm": lambda x, a, b: F.layer_norm(x, shape[-1:], a, b, 1e-3),
        }[kind]
        return self.wrap(call), x, dy, a, b

    def layer(self, kind, shape):
        call, x, _, a, b = self._layer(kind, shape)
        return self._inference(lambda: call(x, a, b)), 1

    def layer_grad(self, kind, shape):
        call, x, dy, a, b = self._layer(kind, shape)
        inputs = [t.requires_grad_() for t in ((x,) if kind == "max_pool" else (x, a, b))]
        return lambda: self.torch.autograd.grad(call(x, a, b), inputs, dy), 1

    def _recurrent(self, kind, shape):
        _, _, features, units = shape
        layer = {"lstm": self.torch.nn.LSTM, "gru": self.torch.nn.GRU}[kind]
        x, *_, dy = (self._tensor(array) for array in recurrent(kind, shape))
        return layer(features, units, batch_first=True), x, dy

    def recurrent(self, kind, shape):
        layer, x, _ = self._recurrent(kind, shape)
        return self._inference(lambda: layer(x)), 1

    def recurrent_grad(self, kind, shape):
        layer, x, dy = self._recurrent(kind, shape)
        inputs = [x.requires_grad_(), *layer.parameters()]
        return lambda: self.torch.autograd.grad(layer(x)[0], inputs, dy), 1

    def attention(self, shape):
        q, k, v, _ = (self._tensor(a).transpose(1, 2) for a in attention_arrays(shape))
        f = self.wrap(self.torch.nn.functional.scaled_dot_product_attention)
        return self._inference(lambda: f(q, k, v, is_causal=True)), 1

    def attention_grad(self, shape):
        *xs, dy = (self._tensor(a).transpose(1, 2) for a in attention_arrays(shape))
        xs = [x.contiguous().requires_grad_() for x in xs]  # the order that its kernel likes
        f, dy = self.wrap(self.torch.nn.functional.scaled_dot_product_attention), dy.contiguous()
        return lambda: self.torch.autograd.grad(f(*xs, is_causal=True), xs, dy), 1

    def embedding_grad(self, shape):
        w, ids, dy = map(self._tensor, embedding_arrays(shape))
        f, ids = self.wrap(self.torch.nn.functional.embedding), ids.long()
        w.requires_grad_()
        return lambda: self.torch.autograd.grad(f(ids, w), w, dy), 1

    def embedding_sgd(self, shape):
        w, ids, dy = map(self._tensor, embedding_arrays(shape))
        f, ids = self.torch.nn.functional.embedding, ids.long()
        optimizer = self.torch.optim.SGD([w.requires_grad_()], lr=0.01)

        def call():
            optimizer.zero_grad()
            f(ids, w, sparse=True).backward(dy)
            optimizer.step()

        return call, 1

    def adam(self, n):
        w = self._tensor(normal(n)).requires_grad_()
        w.grad = self._tensor(normal(n, seed=1))
        return self.torch.optim.Adam([w], fused=True).step, 1

    def _model(self, sizes):
        nn = self.torch.nn
        layers = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def train(self, sizes, batch, loss):
        x, y = (self._tensor(array) for array in training_data(sizes, loss))
        model = self._model(sizes)
        f = self.torch.nn.functional
        criterion = f.mse_loss if loss == "mse" else f.cross_entropy
        return self._epochs(model, self.wrap(model), criterion, x, y, batch)

    def _epochs(self, model, call, criterion, x, y, batch):
        """Epochs of steps of Adam on criterion(call(x), y)."""
        optimizer = self.torch.optim.Adam(model.parameters(), fused=True)

        def epoch():
            for rows in self.torch.randperm(len(x)).split(batch):
                optimizer.zero_grad()
                criterion(call(x[rows]), y[rows]).backward()
                optimizer.step()

        return epoch, len(x) // batch

    def predict(self, sizes, how):
        model, x = self._model(sizes), normal(1, sizes[0])

        def call():
            return self.torch.softmax(model(self.torch.from_numpy(x)), 1).numpy()

        return self._inference(call), 1

    def _net(self, net):
        """The network in torch's channels-last order, which is its quicker one."""
        nn, stack = self.torch.nn, []
        for kind, k, (_, _, c) in net_layers(net):
            if kind == "conv":
                stack += [nn.Conv2d(c, k, 3), nn.ReLU()]
            elif kind == "conv_norm":
                stack += [nn.Conv2d(c, k, 3, padding=1, bias=False), nn.BatchNorm2d(k), nn.ReLU()]
            elif kind == "dense":
                stack.append(nn.Linear(c, CLASSES))
            elif kind == "mean":
                stack += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            else:
                stack.append(
                    {"pool": nn.MaxPool2d(2), "flatten": nn.Flatten(), "dropout": nn.Dropout(0.5)}[
                        kind
                    ]
                )
        return nn.Sequential(*stack).to(memory_format=self.torch.channels_last)

    def _pixels(self, x):
        x = self._tensor(x).permute(0, 3, 1, 2)
        return x.contiguous(memory_format=self.torch.channels_last)

    def train_net(self, net, batch):
        model, (x, y) = self._net(net), images(net, BATCHES * batch)
        criterion, x, y = self.torch.nn.functional.cross_entropy, self._pixels(x), self._tensor(y)
        return self._epochs(model, self.wrap(model), criterion, x, y, batch)

    def predict_net(self, net, batch):
        model, (x, _) = self._net(net).eval(), images(net, batch)

        def call():
            y = model(self.torch.from_numpy(x).permute(0, 3, 1, 2))
            return self.torch.softmax(y, 1).numpy()

        return self._inference(call), 1

    def train_image_rows(self, shape, batch):
        nn, (_, features, units, classes) = self.torch.nn, shape
        x, y = map(self._tensor, image_rows(shape, BATCHES * batch))
        lstm, dense = nn.LSTM(features, units, batch_first=True), nn.Linear(units, classes)
        model, criterion = nn.ModuleList([lstm, dense]), nn.functional.cross_entropy
        return self._epochs(model, lambda x: dense(lstm(x)[0][:, -1]), criterion, x, y, batch)

    def train_reviews(self, shape, batch):
        nn, (_, size, width, units) = self.torch.nn, shape
        x, y = map(self._tensor, reviews(shape, BATCHES * batch))
        table, lstm = nn.Embedding(size, width), nn.LSTM(width, units, batch_first=True)
        dense = nn.Linear(units, 1)
        model = nn.ModuleList([table, lstm, dense])
        criterion = nn.functional.binary_cross_entropy_with_logits
        return self._epochs(
            model, lambda x: dense(lstm(table(x))[0][:, -1]), criterion, x, y, batch
        )

    def _block(self, steps, width, heads):
        """A block of a transformer: the module and its function."""
        nn = self.torch.nn
        normal = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        qkv, out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        up, down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def call(h):
            q, k, v = qkv(normal[0](h)).view(-1, steps, 3, heads, width // heads).unbind(2)
            y = nn.functional.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
            )
            h = h + out(y.transpose(1, 2).flatten(2))
            return h + down(nn.functional.gelu(up(normal[1](h))))

        return nn.ModuleList([normal, qkv, out, up, down]), call

    def train_gpt(self, shape, batch):
        nn, (steps, size, width, heads, blocks) = self.torch.nn, shape
        x, y = (self._tensor(a).long() for a in tokens(shape, BATCHES * batch))
        words, places = nn.Embedding(size, width), nn.Embedding(steps, width)
        modules, calls = zip(
            *(self._block(steps, width, heads) for _ in range(blocks)), strict=True
        )
        last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size))
        model = nn.ModuleList([words, places, *modules, last])

        def call(ids):
            h = words(ids) + places.weight
            for f in calls:
                h = f(h)
            return last(h).transpose(1, 2)

        return self._epochs(model, self.wrap(call), nn.functional.cross_entropy, x, y, batch)

    def predict_step(self, features, units):
        cell, x, state = self.torch.nn.LSTMCell(features, units), normal(1, features), None

        def call():
            nonlocal state
            state = cell(self.torch.from_numpy(x), state)
            return state[0].numpy()

        return self._inference(call), 1


class TorchCompiled(Torch):
    def __init__(self, threads):
        super().__init__(threads)
        self.wrap = self.torch.compile

    gemm = conv = conv_grad = embedding_sgd = adam = None
    predict = predict_net = predict_step = None
    train_image_rows = train_reviews = None  # it leaves LSTM as it is
