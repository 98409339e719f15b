"""Kernels of the CUDA backend that store bfloat16 and float16: what they make is what the float32
kernel makes of the same numbers, rounded once. Halves exist inside of programs alone, so these are
written out: inputs are converted, the kernel runs, its results are converted back.
"""

import numpy as np
import pytest

from dlcore import ops
from dlcore.program import dtypes
from dlcore.program.emit import Emission
from dlcore.program.graph import Graph, Trace
from dlcore.program.halves import store_halves

_cuda = pytest.importorskip("dlcore._cuda")
if _cuda.available() is not None:
    pytest.skip(_cuda.available(), allow_module_level=True)

F32, I32, U8 = (dtypes.CODES[name] for name in ("float32", "int32", "uint8"))
_IDENTITY = [0, 1, 1, 0, 0, 0, 0]


def _strides(shape):
    return tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))


def _operand(slot, code, shape):
    return slot, 0, 0, code, tuple(shape), _strides(shape)


def _run(kernel, outputs, inputs, ints, floats, half, wide=()):
    """The outputs of `kernel` as float32 (or integers); reals are stored as `half`, or None, but
    for the tensors number `wide`."""
    real = dtypes.CODES[half] if half else F32
    slots, instructions, operands = {}, [], []
    n = len(inputs) + len(outputs)

    def room(size):
        slot = n + len(slots)
        slots[slot] = max(int(size), 1)
        return slot

    results = [_operand(i, code, shape) for i, (shape, code) in enumerate(outputs)]
    for i, (shape, code) in enumerate(outputs):
        stored = real if code == F32 and i not in wide else code
        operands.append(_operand(room(4 * np.prod(shape)), stored, shape))
    for i, x in enumerate(inputs):
        code = dtypes.CODES[x.dtype.name]
        given = _operand(len(outputs) + i, code, x.shape)
        if code == F32 and len(outputs) + i not in wide:
            stored = _operand(room(4 * x.size), real, x.shape)
            instructions.append(("pointwise", [stored, given], _IDENTITY, []))
            given = stored
        operands.append(given)
    instructions.append((kernel, operands, ints, floats))
    for result, stored in zip(results, operands, strict=False):
        instructions.append(("pointwise", [result, stored], _IDENTITY, []))
    native = _cuda.Program(
        n + len(slots),
        instructions,
        list(range(len(outputs), n)),
        [(i, code, tuple(shape)) for i, (shape, code) in enumerate(outputs)],
        slots,
    )
    made = native(*inputs)
    return made if isinstance(made, tuple) else (made,)


def _case(name, outputs, *inputs, ints=(), floats=(), wide=(), exact=True):
    call = name.split()[0], outputs, inputs, list(ints), list(floats), wide
    return pytest.param(call, exact, id=name)


def _real(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype("float32")


def _attention(steps, width, causal, gradient=False):
    """Two heads of queries for one of keys, a bias and a mask."""
    q, k, v = ((2, steps, n, d) for n, d in ((4, width), (2, width), (2, width + 1)))
    y, lse, scores = (2, steps, 4, width + 1), (2, 4, steps), (2, 4, steps, steps)
    name, outputs, first = "attention", [y, lse], []
    if gradient:
        first = [_real(*y), _real(*y), np.full(lse, 3, "float32")]
        name, outputs = "attention_grad", [q, k, v]
    return _case(
        f"{name} {steps} x {width}",
        [(shape, F32) for shape in outputs],
        *first,
        *(_real(*shape) for shape in (q, k, v, scores)),
        _real(*scores) > -1,
        ints=[causal, 1, 1, 0, 0, 0],
        floats=[0.3, 1.0],
        wide=(5 if gradient else 1,),  # lse
    )


_LABELS = np.arange(7, dtype="int32")
_CASES = [
    _case("gemm", [((33, 40), F32)], _real(33, 72), _real(72, 40), exact=False),
    _case("gemm odd", [((5, 7), F32)], _real(5, 9), _real(9, 7), exact=False),
    _case(
        "conv",
        [((2, 6, 6, 16), F32)],
        _real(2, 8, 8, 8),
        _real(3, 3, 8, 16),
        ints=[2, 1, 1, 1, 1, 1, 0, 0],
        exact=False,
    ),
    _case(
        "conv depthwise",
        [((2, 6, 6, 8), F32)],
        _real(2, 8, 8, 8),
        _real(3, 3, 1, 8),
        ints=[2, 8, 1, 1, 1, 1, 0, 0],
        exact=False,
    ),
    _case(
        "pointwise",  # a sum
        [((3, 44), F32)],
        _real(3, 44),
        _real(3, 44),
        ints=[0, 1, 2, 0, 1, 1, 1, 2, 0, 1, 2],
    ),
    *(
        _case(
            f"random {kind}", [((3, 11), F32)], np.full(1, 7), ints=[kind, 5, 1], floats=[0.25, 0.5]
        )
        for kind in (0, 1, 2)
    ),
    _case("reduce", [((3, 1), F32)], _real(3, 44), ints=[0, *_IDENTITY]),
    _case("reduce rows", [((1, 44), F32)], _real(9, 44), ints=[1, *_IDENTITY]),
    _case("softmax", [((5, 24), F32)], _real(5, 24), ints=[0]),
    _case("softmax odd", [((5, 7), F32)], _real(5, 7), ints=[1]),
    _case("softmax long", [((2, 9000), F32)], _real(2, 9000), ints=[0]),
    _case("softmax_grad", [((5, 24), F32)], _real(5, 24), _real(5, 24), ints=[0]),
    _case("gather", [((7, 12), F32)], _real(9, 12), _LABELS),
    _case("gather odd", [((7, 3), F32)], _real(5, 3), _LABELS),
    _case(
        "pool max",
        [((2, 3, 3, 8), F32), ((2, 3, 3, 8), U8)],
        _real(2, 6, 6, 8),
        ints=[0, 2, 2, 2, 2, 2, 0, 0],
    ),
    _case("pool odd", [((2, 3, 3, 5), F32)], _real(2, 6, 6, 5), ints=[1, 2, 2, 2, 2, 2, 0, 0]),
    *(
        _case(
            f"{kernel} {rows} x {size}",
            [((rows, size), F32), *(((n,), F32) for n in (size, size))],
            _real(rows, size),
            _real(rows, size),
            *(_real(n) for n in (rows, rows, size)),
            ints=[1],
            wide=(1, 2, 5, 6, 7),
        )
        if kernel == "layer_norm_grad"
        else _case(
            f"{kernel} {rows} x {size}",
            [((rows, size), F32), ((rows,), F32), ((rows,), F32)],
            _real(rows, size),
            _real(size),
            _real(size),
            ints=[1],
            floats=[1e-3],
            wide=(1, 2, 4, 5),
        )
        for kernel in ("layer_norm", "layer_norm_grad")
        for rows, size in ((5, 24), (3, 7), (2, 9000))
    ),
    *(
        _case(
            f"moments {shape}",
            [((shape[0], 2), F32)] * 2,
            _real(*shape),
            ints=[2],
            wide=(0, 1),
        )
        for shape in ((2, 700, 8), (1, 33, 6))
    ),
    *(
        _case(
            f"centered_sums {shape}",
            [((shape[0], shape[2]), F32)] * 2,
            _real(*shape),
            _real(*shape),
            _real(shape[0], shape[2]),
            wide=(0, 1, 4),
        )
        for shape in ((2, 700, 8), (1, 33, 6))
    ),
    _attention(33, 8, 0),
    _attention(5, 7, 1),
    _attention(33, 7, 0, gradient=True),
    _attention(5, 8, 1, gradient=True),
    *(
        _case(
            f"scatter_add {rows} x {columns}",
            [((9, columns), F32)],
            _real(rows, columns),
            np.arange(rows) ** 2 % 11,
            *base,
        )
        for rows, columns, base in ((7, 12, ()), (200, 3, (_real(9, 3),)), (200, 8, ()))
    ),
    *(
        _case(
            f"affine_sample {how}",
            [((2, 4, 9, 3), F32)],
            _real(2, 5, 7, 3),
            _real(2, 6),
            ints=[how, 2],
            floats=[0.5],
            wide=(2,),
        )
        for how in (0, 1)
    ),
    _case("pool_grad", [((2, 6, 6, 8), F32)], _real(2, 3, 3, 8), ints=[1, 2, 2, 2, 2, 2, 0, 0]),
]


@pytest.mark.parametrize("half", dtypes.HALVES)
@pytest.mark.parametrize("call, exact", _CASES)
def test_kernel(call, exact, half):
    kernel, outputs, inputs, ints, floats, wide = call

    def rounded(i, x):
        if x.dtype != "float32" or i in wide:
            return x
        return dtypes.round_to_half(np, x, half).astype("float32")

    made = _run(kernel, outputs, inputs, ints, floats, half, wide)
    given = [rounded(len(outputs) + i, x) for i, x in enumerate(inputs)]
    wanted = _run(kernel, outputs, given, ints, floats, None)
    assert kernel in _cuda.half_kernels()
    for i, (x, y) in enumerate(zip(made, wanted, strict=True)):
        y = rounded(i, y)
        if exact:
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_allclose(x, y, rtol=2**-7, atol=1e-5)


def test_others_refuse():
    with pytest.raises(ValueError, match="no halves"):
        _run("arg_reduce", [((3, 1), I32)], [_real(3, 4)], [0], [], "bfloat16")


@pytest.mark.parametrize("half", dtypes.HALVES)
def test_programs_store_halves_where_kernels_take_them(half):
    def f(x, w):
        x, w = ops.cast(x, half), ops.cast(w, half)
        y = ops.softmax(ops.relu(ops.matmul(x, w) + 1))
        return y, ops.layer_normalization(y, w[0], w[0]), ops.cast(x, "float32")

    def operands(taking):
        with Trace() as trace:
            shapes = (8, 16), (16, 4)
            graph = Graph(trace, f(*(trace.input(shape, "float32") for shape in shapes)))
        emission = Emission(store_halves(graph, taking), _cuda.opcodes())
        return {i[0]: [dtypes.NAMES[t[3]] for t in i[1]] for i in emission.instructions}

    kernels = operands({"gemm", "softmax"})
    assert kernels["gemm"][:3] == [half] * 3 and kernels["softmax"] == [half] * 2
    assert set(kernels["layer_norm"]) == {"float32"}
    assert set(operands(set())["gemm"][1:3]) == {"float32"}
