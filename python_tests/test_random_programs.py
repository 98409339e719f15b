"""Programs made by chance: what the compiler fuses, views, overwrites and places does what the
formulas do, node by node."""

import numpy as np
import pytest

import dlcore
from dlcore import ops
from dlcore.backends.arrays import ArrayProgram
from dlcore.program import Graph, Trace, gradients

SIZES = (1, 2, 3, 4, 8, 9)
LARGE = (1, 7, 16, 33)


class Maker:
    """Draws nodes over earlier results; values stay near 1, so that errors do not grow."""

    def __init__(self, seed, nodes):
        self.rng = np.random.default_rng(seed)
        self.nodes = nodes
        sizes, self.most = (LARGE, 40000) if self._chance(0.3) else (SIZES, 2000)
        self.sizes = self.rng.choice(sizes, 2)  # few, so that many results fit together
        shapes = [self._shape() for _ in range(3)]
        self.dtype = "float64" if self._chance(0.2) else "float32"
        self.arrays = [self.rng.uniform(-1, 1, s).astype(self.dtype) for s in shapes]
        self.starts = [self.rng.uniform(-1, 1, s).astype(self.dtype) for s in shapes[:2]]
        self.start = self.rng.bit_generator.state

    def _chance(self, p):
        return self.rng.random() < p

    def _any(self, things):
        return things[self.rng.integers(len(things))]

    def _shape(self):
        return tuple(int(n) for n in self.rng.choice(self.sizes, self.rng.integers(1, 4)))

    def variables(self):
        return [dlcore.Variable(x.copy()) for x in self.starts]

    def program(self, variables):
        """f(*arrays) -> results, which also assigns to the variables."""

        def f(*inputs):
            self.rng.bit_generator.state = self.start
            pool = [*inputs, *(v.value for v in variables)]
            for _ in range(self.nodes):
                x = pool[-1] if self._chance(0.5) else self._any(pool)
                kind = self._any(
                    (self.pointwise, self.pointwise, self.view, self.join, self.whole, self.layer)
                )
                y = kind(x, pool)
                if 0 < y.size <= self.most and len(y.shape) <= 5:
                    pool.append(y)
                if self._chance(0.1):
                    self._assign(self._any(variables), pool)
            for v in variables:
                self._assign(v, pool)
            results = [pool[-1], *(self._any(pool) for _ in range(3))]
            used = [x for x in pool[:5] if self._chance(0.7)]
            if self._chance(0.6) and used:
                loss = sum(ops.mean(ops.square(r)) for r in results)
                grads = gradients(loss, used)
                results += [g for g in grads if g is not None]
                for v in variables:
                    if self._chance(0.5):
                        self._step(v, gradients(loss, [v])[0])
            return results

        return f

    def _assign(self, variable, pool):
        fitting = [x for x in pool if x.shape == variable.shape]
        x = self._any(fitting) if fitting else variable.value
        variable.assign(x if self._chance(0.3) else x * 0.5 + variable.value * 0.25)

    def _step(self, variable, gradient):
        """An optimizer's update, which a product that makes the gradient may take along."""
        if gradient is not None:
            slot = variable.value * 0.5 + gradient * 0.5
            variable.assign(variable.value - slot / (ops.sqrt(ops.square(slot)) + 1.0))

    # Nodes

    def pointwise(self, x, pool):
        f = self._any(
            (ops.tanh, ops.sin, ops.sigmoid, ops.negative, ops.square, ops.abs, ops.relu, ops.gelu,
             lambda x: x * 0.5 + 0.25, lambda x: 0.5 / (1.0 + ops.exp(x * 0.5)))
        )  # fmt: skip
        return f(x)

    def view(self, x, pool):
        kind = self.rng.integers(6)
        rank = len(x.shape)
        if kind == 0:
            return ops.transpose(x, tuple(int(a) for a in self.rng.permutation(rank)))
        if kind == 1:
            return ops.reshape(x, self._any((-1, (1, *x.shape), (*x.shape[::-1],), (*x.shape, 1))))
        if kind == 2 and rank:
            at = []
            for n in x.shape:
                a, b = sorted(int(i) for i in self.rng.integers(0, n + 1, 2))
                b = max(b, min(a + 1, n)) if a < n else n
                a = min(a, n - 1)
                at.append(self._any((slice(None), slice(a, b), slice(None, None, -1),
                                     slice(a, None, 2))))  # fmt: skip
            return x[tuple(at)]
        if kind == 3:
            return ops.broadcast_to(x, (int(self._any(self.sizes)), *x.shape))
        if kind == 4 and rank:
            axis = int(self.rng.integers(rank))
            return ops.flip(x, axis)
        return ops.squeeze(x) if kind == 5 else ops.expand_dims(x, -1)

    def join(self, x, pool):
        """Nodes of two operands."""
        seen = self.view(x, pool)  # the same memory, in another order perhaps
        fitting = [y for y in [*pool, *[seen] * len(pool)] if _broadcasts(x.shape, y.shape)]
        y = self._any(fitting)
        kind = self.rng.integers(8)
        alike = [y for y in pool if y.shape == x.shape]
        if kind == 0 and x.shape:
            return ops.concatenate([x, self._any(alike)], int(self.rng.integers(len(x.shape))))
        if kind == 1:
            return ops.stack([x, self._any(alike)], int(self.rng.integers(len(x.shape) + 1)))
        if kind == 2:
            return ops.maximum(x, y)
        if kind == 3:
            condition = self.rng.random(x.shape) < 0.5
            return ops.where(condition, x, y)
        if kind == 4:
            return x * y
        if kind == 5:
            return x - y * 0.5
        return (x + y) * 0.5

    def whole(self, x, pool):
        """Nodes that need their operand as a whole."""
        kind, rank = self.rng.integers(9), len(x.shape)
        if rank == 0:
            return x
        axis = int(self.rng.integers(rank))
        if kind == 0:
            return ops.mean(x, axis, keepdims=self._chance(0.5))
        if kind == 1:
            return ops.max(x, self._any((None, axis)), keepdims=self._chance(0.5))
        if kind == 2:
            return ops.softmax(x, axis)
        if kind == 3:
            index = self.rng.integers(0, x.shape[axis], self.rng.integers(1, 5))
            return ops.take(x, index, axis)
        if kind == 4:
            return ops.cumsum(x, axis) / float(x.shape[axis])
        if kind == 5:
            return ops.pad(x, [(int(a), int(b)) for a, b in self.rng.integers(0, 2, (rank, 2))])
        return self._product(x, pool)

    def layer(self, x, pool):
        """Kernels of their own, with weights of the pool where some fit."""
        kind = self.rng.integers(8)
        if kind == 0 and len(x.shape) >= 2:
            scale = [y for y in pool if y.shape == x.shape[-1:]]
            if scale:
                return ops.layer_normalization(x, self._any(scale), self._any(scale), epsilon=0.1)
        if kind == 1 and len(x.shape) == 4 and min(x.shape[1:3]) > 1:
            return (ops.max_pool if self._chance(0.5) else ops.average_pool)(x, 2)
        if kind == 2 and 3 <= len(x.shape) <= 4:
            taps = (2,) * (len(x.shape) - 2)
            w = self.rng.uniform(-1, 1, (*taps, x.shape[-1], 3)).astype(self.dtype)
            return ops.conv(x, w, padding="same") * (0.5 / x.shape[-1])
        if kind == 3 and len(x.shape) >= 2:
            index = self.rng.integers(0, x.shape[-1], x.shape[:-1])
            return ops.take_along_axis(x, index[..., None], -1)
        if kind == 4 and x.shape:
            return ops.cast(ops.argmax(self._any(pool[:3]), -1), self.dtype) * 0.1
        if kind == 5 and len(x.shape) == 2:
            labels = self.rng.integers(0, x.shape[1], x.shape[0])
            return ops.sparse_categorical_crossentropy(labels, x, from_logits=True) * 0.2
        if kind == 6 and len(x.shape) >= 1:
            return ops.sqrt(ops.var(x, -1, keepdims=True) + 0.5)
        if kind == 7 and x.shape:
            index = self.rng.integers(0, x.shape[0] + 1, x.shape[0])
            return ops.segment_sum(x, index, x.shape[0] + 1) * 0.3
        return ops.log_softmax(x, -1) * 0.2 if x.shape else x * 0.5

    def _product(self, x, pool):
        """x @ y, either transposed, with something of the pool or of x itself."""
        right = [y for y in pool if len(y.shape) == 2 and y.shape[0] == x.shape[-1]]
        across = [y for y in pool if len(y.shape) == 2 and y.shape[1] == x.shape[-1]]
        scale = 1.0 / x.shape[-1]
        if across and self._chance(0.5):
            return x @ ops.transpose(self._any(across)) * scale
        if right:
            return x @ self._any(right) * scale
        if len(x.shape) >= 2:
            return x @ ops.swapaxes(x, -1, -2) * scale
        return ops.outer(x, x)


def _broadcasts(a, b):
    return all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1], strict=False))


def agree(seed, nodes):
    maker = Maker(seed, nodes)
    ours, formulas = maker.variables(), maker.variables()
    run = dlcore.function(maker.program(ours))
    with Trace() as trace:
        inputs = [trace.input(x.shape, maker.dtype) for x in maker.arrays]
        graph = Graph(trace, maker.program(formulas)(*inputs))
    reference = ArrayProgram(graph)
    tolerance = 2e-4 if maker.dtype == "float32" else 1e-11
    for _ in range(2):  # from what the first call has left in the variables too
        results = [*run(*maker.arrays), *(v.numpy() for v in ours)]
        expected = [*reference(*maker.arrays), *(v.numpy() for v in formulas)]
        for y, e in zip(results, expected, strict=True):
            np.testing.assert_allclose(y, e, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("seed", range(60))
def test_program_does_what_its_formulas_do(seed):
    agree(seed, nodes=4 + seed)
