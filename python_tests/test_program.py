"""The native binding: programs, slots, bounds, the dispatcher and the pool of arrays."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest

from dlcore import function, ops

_cpu = pytest.importorskip("dlcore._cpu")

F32, F64, I32, I64, U8, B8 = range(6)
CODES = {np.float32: F32, np.float64: F64, np.int32: I32, np.int64: I64, np.uint8: U8, np.bool_: B8}


def operand(slot, shape, dtype=F32, offset=0, step=0, strides=None):
    if strides is None:
        strides, n = [], 1
        for s in reversed(shape):
            strides.insert(0, n)
            n *= s
    return (slot, offset, step, dtype, tuple(shape), tuple(strides))


def pointwise(op, out, *inputs, constants=()):
    """One operation on float32: inputs, then constants."""
    code, arity, n_out = _cpu.opcodes()[op]
    assert arity == len(inputs) + len(constants) and n_out == 1
    temporary = arity
    ints = [0, 1, len(inputs), len(constants), 1, 1, code, temporary, *range(arity), temporary]
    return ("pointwise", [out, *inputs], ints, [float(c) for c in constants])


def gemm(out, a, b):
    return ("gemm", [out, a, b], [], [])


def square_program(n=8):
    """y = x * x for x of (n,), called eagerly."""
    x, y = operand(0, (n,)), operand(1, (n,))
    instruction = pointwise("multiply", y, x, x)
    return _cpu.Program(2, [instruction], [(0, F32, (n,))], [(1, F32, (n,))])


def gemm_program(m, k, n):
    instruction = gemm(operand(2, (m, n)), operand(0, (m, k)), operand(1, (k, n)))
    return _cpu.Program(3, [instruction], [0, 1], [(2, F32, (m, n))])


def test_lists():
    assert set(_cpu.kernels()) >= {"gemm", "pointwise", "reduce", "gather", "softmax", "random"}
    codes = _cpu.opcodes()
    assert codes["identity"] == (0, 1, 1) and codes["adam_update"][1:] == (8, 3)
    assert sorted(c for c, _, _ in codes.values()) == list(range(len(codes)))
    assert _cpu.level() in _cpu.levels() and _cpu.vector_bytes() in (16, 32, 64)


def test_eager_call():
    x = np.arange(8, dtype=np.float32)
    y = square_program()(x)
    assert type(y) is np.ndarray and y.dtype == np.float32 and y.flags.c_contiguous
    np.testing.assert_array_equal(y, x * x)


def test_two_outputs_make_a_tuple():
    x, y, z = (operand(i, (3,)) for i in range(3))
    list_ = [pointwise("negative", y, x), pointwise("abs", z, y)]
    program = _cpu.Program(3, list_, [0], [(1, F32, (3,)), (2, F32, (3,))])
    a, b = program(np.array([1, -2, 3], np.float32))
    np.testing.assert_array_equal(a, [-1, 2, -3])
    np.testing.assert_array_equal(b, [1, 2, 3])


def test_scalar_shape():
    program = _cpu.Program(
        2, [pointwise("exp", operand(1, ()), operand(0, ()))], [(0, F32, ())], [(1, F32, ())]
    )
    assert program(np.zeros((), np.float32)).shape == ()


@pytest.mark.parametrize(
    "argument",
    [
        3.0,
        [1.0] * 8,
        np.zeros(8),
        np.zeros(9, np.float32),
        np.zeros((8, 1), np.float32),
        np.zeros(16, np.float32)[::2],
        np.zeros(8, ">f4"),
        np.zeros(33, np.uint8)[1:].view(np.float32),
        np.zeros(8, np.float32).view(np.recarray),
        np.zeros(8, object),
        np.zeros(8, "M8[s]"),
        np.zeros(8, [("a", "f4")]),
    ],
    ids=lambda a: f"{type(a).__name__} {getattr(a, 'dtype', '')} {getattr(a, 'shape', '')}",
)
def test_eager_call_refuses(argument):
    with pytest.raises(
        TypeError, match="program: expected argument 0 to be a C-contiguous ndarray"
    ):
        square_program()(argument)


def test_eager_call_counts_arguments():
    x = np.zeros(8, np.float32)
    with pytest.raises(TypeError, match="expected 1 arrays, got 2"):
        square_program()(x, x)
    with pytest.raises(TypeError, match="without names"):
        square_program()(x=x)


def test_inputs_by_slot_check_size():
    program = gemm_program(4, 3, 2)
    a, b = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(program(a, b), a @ b)
    with pytest.raises(ValueError, match="slot 0 to hold bytes"):
        program(a[:2], b)
    with pytest.raises(TypeError, match="float64"):
        program(a, b.astype(np.float64))


def test_a_written_input_must_be_writable():
    x = operand(0, (4,))
    program = _cpu.Program(1, [pointwise("negative", x, x)], [0], [])
    a = np.ones(4, np.float32)
    assert program(a) == ()
    np.testing.assert_array_equal(a, -1)
    a.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        program(a)


def test_steps_move_operands():
    steps, n = 6, 5
    x = np.random.default_rng(0).normal(size=(steps, n)).astype(np.float32)
    y = np.zeros_like(x)
    instruction = pointwise("square", operand(1, (n,), step=4 * n), operand(0, (n,), step=4 * n))
    program = _cpu.Program(2, [instruction])
    program.bind(0, x)
    program.bind(1, y)
    assert program.run(1, 3) == 3
    np.testing.assert_array_equal(y[1:4], x[1:4] ** 2)
    assert not y[0].any() and not y[4:].any()
    assert program.run(0, steps) == steps
    np.testing.assert_array_equal(y, x**2)
    for first, count in [(0, 7), (6, 1), (-1, 1), (0, -1), (2**62, 2**62), (0, 2**63 - 1)]:
        with pytest.raises(ValueError, match="program: expected"):
            program.run(first, count)
    assert program.run(3, 0) == 0


def test_bind_negative_strides_and_offsets():
    n = 5
    x = np.arange(10, dtype=np.float32)
    backwards = pointwise("identity", operand(1, (n,)), operand(0, (n,), strides=(-1,)))
    program = _cpu.Program(2, [backwards])
    y = np.zeros(n, np.float32)
    program.bind(1, y)
    with pytest.raises(ValueError, match=r"bytes \[-16, 4\), got bytes \[0, 40\)"):
        program.bind(0, x)
    program.bind(0, x[::-1])
    program.run()
    np.testing.assert_array_equal(y, x[:4:-1])


def test_bind_refuses():
    program = _cpu.Program(
        2, [pointwise("negative", operand(1, (4,)), operand(0, (4,)))], slot_bytes={0: 16}
    )
    with pytest.raises(ValueError, match="bound to slot 1, got none"):
        program.run()
    good = np.zeros(4, np.float32)
    for array, error in [
        (np.zeros(3, np.float32), ValueError),
        (np.zeros(17, np.uint8)[1:], ValueError),
        (np.zeros(4, object), TypeError),
        (np.zeros(4, ">f4"), TypeError),
        ([0.0] * 4, TypeError),
        (np.broadcast_to(np.float32(1), 4), ValueError),
    ]:
        with pytest.raises(error, match="program: expected"):
            program.bind(1, array)
    for slot in (0, 2, -1):
        with pytest.raises(ValueError, match="slot"):
            program.bind(slot, good)
    program.bind(1, good)
    program.run()
    program.bind(1, None)
    with pytest.raises(ValueError, match="got none"):
        program.run()


def test_bound_arrays_are_kept_and_freed():
    program = _cpu.Program(1, [pointwise("add", operand(0, (4,)), operand(0, (4,)), constants=[1])])
    x = np.zeros(4, np.float32)
    reference = weakref.ref(x)
    program.bind(0, x)
    del x
    program.run(0, 3)
    np.testing.assert_array_equal(reference(), 3)
    program.bind(0, None)
    assert reference() is None


def test_write_and_read():
    program = _cpu.Program(1, [], slot_bytes={0: 64})
    assert program.memory_bytes == 64
    assert not program.read(0, 0, U8, [64]).any()
    values = np.arange(6, dtype=np.int32).reshape(2, 3)
    program.write(0, 8, values.T)  # copied in C order
    np.testing.assert_array_equal(program.read(0, 8, I32, [3, 2]), values.T)
    program.write(0, 64, np.zeros(0, np.float32))
    for offset in (-1, 41, 2**62):
        with pytest.raises(ValueError, match="program: expected"):
            program.write(0, offset, values)
    with pytest.raises(ValueError, match="program: expected"):
        program.read(0, 32, F64, [5])
    with pytest.raises(ValueError, match="owns"):
        _cpu.Program(1, []).write(0, 0, values)


def ok():
    return operand(0, (4,))


@pytest.mark.parametrize(
    ("instruction", "error"),
    [
        (("nope", [], [], []), ValueError),
        (("gemm", [], [], []), ValueError),
        (("pointwise", [ok(), ok()], [], []), ValueError),
        (("pointwise", [ok(), ok()], [2**63], []), ValueError),
        (("pointwise", [ok(), ok()], [1.5], []), TypeError),
        (("pointwise", [ok(), ok()], [0], ["x"]), TypeError),
        (("pointwise", [ok()[:5], ok()], [0], []), ValueError),
        (("pointwise", 3, [0], []), TypeError),
        (("pointwise", [3], [0], []), TypeError),
        ((3, [], [], []), TypeError),
        (("pointwise",), ValueError),
        (7, TypeError),
        (pointwise("negative", ok(), operand(0, (4,), dtype=6)), ValueError),
        (pointwise("negative", ok(), operand(0, (4,), strides=(1, 1))), ValueError),
        (pointwise("negative", ok(), operand(0, (1,) * 9)), ValueError),
        (pointwise("negative", ok(), operand(0, (4,), offset=4)), ValueError),
        (pointwise("negative", ok(), operand(0, (4,), offset=-4)), ValueError),
        (pointwise("negative", ok(), operand(0, (4,), offset=2**63 - 4)), ValueError),
        (pointwise("negative", ok(), operand(0, (4,), strides=(2**61,))), ValueError),
        (pointwise("negative", ok(), operand(0, (-4,))), ValueError),
        (pointwise("negative", ok(), operand(5, (4,))), ValueError),
        (pointwise("negative", ok(), operand(2**40, (4,))), ValueError),
    ],
)
def test_bad_instructions(instruction, error):
    with pytest.raises(error):
        _cpu.Program(1, [instruction], slot_bytes={0: 16})


def test_bad_programs():
    for arguments in [(-1, []), (1, [], [3]), (1, [], [], [(0, F32)]), (1, [], [], [(0, 9, ())])]:
        with pytest.raises(ValueError):
            _cpu.Program(*arguments)
    for sizes in [{0: -1}, {3: 4}]:
        with pytest.raises(ValueError):
            _cpu.Program(1, [], slot_bytes=sizes)
    with pytest.raises(MemoryError):
        _cpu.Program(1, [], slot_bytes={0: 2**62})


def test_instructions_describe_the_program():
    (gemm_,) = gemm_program(256, 256, 256).instructions
    assert gemm_["kernel"] == "gemm" and gemm_["flops"] == 2 * 256**3
    assert all(1 <= t <= p for t, p in zip(gemm_["threads"], gemm_["parts"], strict=True))


def test_zero_size():
    program = _cpu.Program(
        2, [pointwise("exp", operand(1, (0, 3)), operand(0, (0, 3)))], [0], [(1, F32, (0, 3))]
    )
    assert program(np.zeros((0, 3), np.float32)).shape == (0, 3)


# Dispatcher


def test_dispatcher():
    missed = []

    def miss(*arguments, **names):
        missed.append((arguments, names))
        return "missed"

    call = _cpu.Dispatcher(miss)
    x = np.arange(8, dtype=np.float32)
    assert call(x) == "missed"
    call.add(((F32, (8,)),), square_program())
    np.testing.assert_array_equal(call(x), x * x)
    assert len(missed) == 1
    for other in (
        (x.astype(np.float64),),
        (x[:4],),
        (x.reshape(2, 4),),
        (x[::-1],),
        (x, x),
        (),
        (list(x),),
        (x.view(np.recarray),),
        (x.astype(">f4"),),
        (np.float32(3),),
    ):
        assert call(*other) == "missed"
        assert missed[-1][0] is other or len(missed[-1][0]) == len(other)
    assert call(x, axis=0) == "missed" and missed[-1][1] == {"axis": 0}


def test_dispatcher_passes_errors_on():
    def miss():
        raise KeyError("from miss")

    with pytest.raises(KeyError, match="from miss"):
        _cpu.Dispatcher(miss)()
    with pytest.raises(TypeError, match="callable"):
        _cpu.Dispatcher(3)
    call = _cpu.Dispatcher(miss)
    with pytest.raises(TypeError, match="Program"):
        call.add((), 3)
    for signature in [
        (),
        ((F64, (8,)),),
        ((F32, (9,)),),
        ((F32, (8, 1)),),
        ((F32,),),
        ((9, (8,)),),
    ]:
        with pytest.raises(ValueError, match="expected"):
            call.add(signature, square_program())
    assert len(call) == 0


def test_dispatcher_drops_the_oldest():
    call = _cpu.Dispatcher(lambda *a: None)
    for n in range(1, 301):
        call.add(((F32, (n,)),), square_program(n))
    call.add(((F32, (300,)),), square_program(300))
    assert len(call) == 256
    assert call(np.ones(44, np.float32)) is None
    for n in (45, 300):
        assert call(np.ones(n, np.float32)).shape == (n,)


def test_dispatcher_is_collected():
    class Owner:
        pass

    owner = Owner()
    owner.call = _cpu.Dispatcher(lambda *a, owner=owner: owner)
    reference = weakref.ref(owner)
    del owner
    gc.collect()
    assert reference() is None


# Pool


def test_empty():
    for dtype, code in CODES.items():
        for shape in [(), (0,), (5,), (3, 0, 2), (2, 3, 4)]:
            x = _cpu.empty(shape, code)
            assert (
                x.shape == shape and x.dtype == dtype and x.flags.c_contiguous and x.flags.writeable
            )
            assert x.ctypes.data % 64 == 0
            x[...] = 1
    for shape, code, error in [
        ((-1,), F32, ValueError),
        ((2,), 6, ValueError),
        ((2**62, 2**62), F32, MemoryError),
    ]:
        with pytest.raises(error):
            _cpu.empty(shape, code)


def test_pool_reuses_memory():
    x = _cpu.empty((1 << 20,), F32)
    address = x.ctypes.data
    view = x[5:]
    del x
    y = _cpu.empty((1 << 20,), F32)
    assert y.ctypes.data != address  # a view keeps it alive
    del view
    assert _cpu.empty(((1 << 20) - 7,), F32).ctypes.data == address


def test_pool_contents_are_kept_apart():
    rng = np.random.default_rng(0)
    alive = []
    for _ in range(2000):
        n = int(rng.integers(0, 3000))
        x = _cpu.empty((n,), I32)
        x[:] = n
        alive.append(x)
        if len(alive) > 50:
            alive.pop(int(rng.integers(len(alive))))
        assert all((a == a.size).all() for a in alive[::7])


def test_pool_gives_memory_back():
    arrays = [
        _cpu.empty((1 << 24,), U8) for _ in range(24)
    ]  # 24 x 20 MiB: more than the pool keeps
    for x in arrays:
        x[:] = 1
    arrays.clear()
    huge = _cpu.empty((300 << 20,), U8)  # more than the pool takes
    huge[-1] = 1
    del huge
    assert _cpu.empty((10,), U8).size == 10


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_arrays_at_shutdown():
    result = run_python(
        """
        import atexit, sys
        from dlcore import _cpu
        keep = _cpu.empty((1 << 20,), 0)
        keep[:] = 1
        sys.keep = keep
        cycle = [_cpu.empty((100,), 0)]
        cycle.append(cycle)
        atexit.register(lambda: print(float(keep.sum())))
        """
    )
    assert result.returncode == 0 and result.stdout == "1048576.0\n", result.stderr


def test_programs_of_many_threads():
    m = 96
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(m, m)).astype(np.float32) for _ in range(2))
    expected = gemm_program(m, m, m)(a, b).tobytes()
    shared = gemm_program(m, m, m)
    wrong = []

    def work():
        own = gemm_program(m, m, m)
        for _ in range(30):
            for program in (own, shared):
                if program(a, b).tobytes() != expected:
                    wrong.append(program)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_function_of_ever_new_shapes_keeps_little(monkeypatch):
    f = function(lambda x: ops.sum(ops.tanh(x) @ ops.transpose(x)))
    x = np.ones((200, 20), np.float32)
    one = f.compiled(x).memory_bytes
    if not one:
        pytest.skip("formulas keep no memory")
    monkeypatch.setattr(sys.modules["dlcore.program.function"], "_MOST_BYTES", one)
    for rows in range(150, 200):
        assert np.isclose(f(x[:rows]), 20 * rows * rows * np.tanh(1), rtol=1e-4)
        assert len(f._programs) <= 4
    before = f.compiled(x[:198]), f.compiled(x[:199])
    assert (f.compiled(x[:198]), f.compiled(x[:199])) == before


def test_bind_while_running():
    n = 1 << 16
    x = np.ones(n, np.float32)
    y = np.zeros(n, np.float32)
    program = _cpu.Program(2, [pointwise("tanh", operand(1, (n,)), operand(0, (n,)))])
    program.bind(0, x)
    program.bind(1, y)
    thread = threading.Thread(target=lambda: program.run(0, 500))
    thread.start()
    for _ in range(20):
        program.bind(0, x.copy())
    thread.join()
    program.run()
    np.testing.assert_allclose(y, np.tanh(x), rtol=1e-6)
