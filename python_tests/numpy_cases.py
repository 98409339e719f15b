"""The runner of tables that hold ops to NumPy: each case is one expression in `m`, which is
dlcore.ops in the test and NumPy as its reference."""

from dataclasses import dataclass

import numpy as np
import pytest

import dlcore
from dlcore import ops
from dlcore.check import oracle


@dataclass(frozen=True)
class Case:
    """`f(m, *arrays)`, arrays of `shapes` drawn evenly from low..high; "i<k>" in `dtypes` makes an
    array integer in 0..k-1. `reference(*arrays)` stands in where NumPy lacks the name."""

    name: str
    f: callable
    shapes: tuple
    reference: callable = None
    gradient: bool = True
    dtypes: tuple = ()
    low: float = -2.0
    high: float = 2.0
    rtol: float = 2e-6

    def inputs(self, dtype, seed=0):
        rng = np.random.default_rng(seed)
        kinds = (*self.dtypes, *(None,) * len(self.shapes))
        return [
            rng.integers(0, int(k[1:]), s).astype("int32")
            if k
            else rng.uniform(self.low, self.high, s).astype(dtype)
            for s, k in zip(self.shapes, kinds, strict=False)
        ]

    def expected(self, xs):
        with np.errstate(all="ignore"):
            wide = [oracle.wide(x) for x in xs]
            y = self.reference(*wide) if self.reference else self.f(np, *wide)
        return oracle.as_list(y)


def check_values(case, dtype):
    """At once on arrays, and inside a compiled function."""
    xs = case.inputs(dtype)
    rtol = case.rtol if dtype == "float32" else case.rtol * 1e-8
    for call in (lambda *xs: case.f(ops, *xs), dlcore.function(lambda *xs: case.f(ops, *xs))):
        ys, expected = oracle.as_list(call(*xs)), case.expected(xs)
        for y, e in zip(ys, expected, strict=True):
            if np.asarray(e).dtype.kind == "f" and any(x.dtype.kind == "f" for x in xs):
                assert y.dtype == dtype
            assert y.shape == np.shape(e)
            scale = np.max(np.abs(e), initial=1.0, where=np.isfinite(e))
            np.testing.assert_allclose(y, e, rtol=rtol, atol=rtol * scale)


def check_gradient(case):
    """The formulas' gradient against finite differences, and the kernels' against the formulas'."""
    xs = case.inputs("float64", seed=3)
    loss = oracle.weighted(lambda *xs: case.f(ops, *xs), xs)
    floats = tuple(i for i, x in enumerate(xs) if x.dtype.kind == "f")
    dxs = dict(zip(floats, oracle.gradient(loss, xs)[1], strict=True))
    for i, at, slope in oracle.finite_differences(loss, xs):
        assert dxs[i].flat[at] == pytest.approx(slope, rel=2e-5, abs=2e-5)
    for i, dx in zip(floats, dlcore.value_and_grad(loss, floats)(*xs)[1], strict=True):
        np.testing.assert_allclose(dx, dxs[i], rtol=1e-10, atol=1e-10)
