"""The compiled backend of GPUs, on the emulated device (DLCORE_CUDA=EMULATED) or a real one."""

import numpy as np
import pytest
from test_gpu import NONE, on_gpu, points, python

import dlcore
from dlcore import backends, ops
from dlcore.backends.gpu_array import GpuArray

_cuda = pytest.importorskip("dlcore._cuda")
if _cuda.available() is not None:
    pytest.skip(_cuda.available(), allow_module_level=True)

emulated = pytest.mark.skipif(not _cuda.device()["emulated"], reason="steers the emulation")


@pytest.fixture
def cuda():
    """The library on the compiled backend."""
    from dlcore.backends import cuda

    with on_gpu("cuda"):
        yield cuda


def test_arrays_without_cupy(cuda):
    x = np.arange(6, dtype="float32").reshape(3, 2)
    there = backends.device_array(x)
    assert (there.shape, there.dtype, there.nbytes) == ((3, 2), np.float32, 24)
    assert backends.device_array(there) is there
    y = ops.add(there, x)
    assert type(y) is GpuArray
    np.testing.assert_array_equal(y.get(), x + x)
    np.testing.assert_array_equal(y[1:].get(), (x + x)[1:])
    np.testing.assert_array_equal(ops.convert_to_numpy(y), x + x)
    assert type(ops.add(x, x)) is np.ndarray
    np.testing.assert_array_equal(backends.device_array(there, "float64").get(), x)
    np.testing.assert_array_equal(ops.sort(y), x + x)
    with pytest.raises(TypeError, match=r"use .get\(\)"):
        np.asarray(y)


def test_arithmetic_losses_and_weights_on_the_gpu_without_cupy(cuda):
    x = np.arange(6, dtype="float32").reshape(3, 2)
    there = backends.device_array(x)
    for y, expected in ((-there, -x), (2.0 - there * x, 2 - x * x), (there[:, 1], x[:, 1])):
        assert type(y) is GpuArray
        np.testing.assert_array_equal(y.get(), expected)
    assert dlcore.losses.MeanSquaredError()(there, x + 1).get() == 1
    assert float(dlcore.metrics.MeanSquaredError()(there, x + 1)) == 1
    v = dlcore.Variable(x)
    dlcore.optimizers.SGD(0.5).apply([there], [v])
    np.testing.assert_array_equal(v.numpy(), x / 2)
    layer = dlcore.layers.Dense(2, use_bias=False)
    layer.build((None, 3))
    layer.set_weights([there])
    np.testing.assert_array_equal(layer.get_weights()[0], x)


class Exported:
    """An array of a GPU by DLPack alone."""

    def __dlpack_device__(self):
        return 2, 0


class Foreign:
    """An array of another library."""

    def __init__(self, array, **changes):
        self._array, self._changes = array, changes

    @property
    def __cuda_array_interface__(self):
        return self._array.__cuda_array_interface__ | self._changes


def test_arrays_of_others_are_taken_without_a_copy(cuda):
    x = np.arange(6, dtype="float32").reshape(3, 2)
    there = Foreign(backends.device_array(x))
    np.testing.assert_array_equal(ops.exp(there).get(), ops.exp(backends.device_array(x)).get())
    np.testing.assert_array_equal(ops.convert_to_numpy(there), x)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"strides": (4, 12)}, ValueError, "array: expected C-contiguous memory on the GPU"),
        ({"typestr": "<c8", "shape": (3,)}, TypeError, "array: expected one of float32"),
        ({"data": (64, False)}, ValueError, "expected an array in the memory of a GPU"),
    ],
)
def test_arrays_that_do_not_fit_are_explained(cuda, changes, error, message):
    there = backends.device_array(np.zeros((3, 2), "float32"))
    with pytest.raises(error, match=message):
        ops.exp(Foreign(there, **changes))


def test_dlpack_asks_for_cupy(cuda):
    with pytest.raises(TypeError, match="got Exported; install CuPy for DLPack"):
        ops.exp(Exported())


def test_a_kernel_that_refuses_a_call_leaves_it_to_the_formulas(cuda, monkeypatch):
    x = np.linspace(-1, 1, 12, dtype="float32").reshape(6, 2)
    model, there = linear(), backends.device_array(x)
    expected = np.tanh(x)

    def refuse(module, *_):
        raise _cuda.Refusal("pointwise: expected fewer elements")

    monkeypatch.setattr(cuda, "build", refuse)
    monkeypatch.setattr(cuda, "_told", set())
    with pytest.warns(RuntimeWarning, match="fewer elements; runs by its formulas on") as told:
        model.predict(x, batch_size=2)
        model.predict(x, batch_size=32)
    assert len(told) == 1
    for given, batch in ((x, 32), (x, 2), (there, 32), (there, 2)):
        y = model.predict(given, batch_size=batch)
        assert type(y) is type(given)
        np.testing.assert_allclose(ops.convert_to_numpy(y), expected, rtol=1e-6)
    model.compile("sgd", "mse")
    assert model.fit(x, x, batch_size=2, epochs=2, verbose=0).history["loss"][-1] > 0


def linear():
    """A model of pointwise ops alone, which have had kernels from the start."""

    class Shift(dlcore.Layer):
        def build(self, shape):
            self.w = self.add_weight((shape[-1],), "zeros", name="w")

        def call(self, x):
            return ops.tanh(x + self.w)

    dlcore.utils.set_random_seed(0)
    return dlcore.Sequential([Shift()])


def test_attention_with_dropout_draws_the_numbers_of_the_cpu():
    from dlcore.ops.attention import dropped_attention

    rng = np.random.default_rng(2)
    q, k, v = (
        rng.normal(size=(2, n, h, 8)).astype("float32") for n, h in ((37, 4), (70, 2), (70, 2))
    )

    def loss(q, k, v):
        y = dropped_attention(q, k, v, None, None, np.array([7]), False, (0.6, 5, 3))
        return ops.sum(ops.sin(y))

    here = dlcore.grad(loss, (0, 1, 2))(q, k, v)
    with on_gpu("cuda"):
        arrays = map(backends.device_array, (q, k, v))
        there = [g.get() for g in dlcore.grad(loss, (0, 1, 2))(*arrays)]
    for a, b in zip(there, here, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_rows_travel_in_pieces(cuda, monkeypatch):
    x, _ = points(100)
    model = linear()
    expected = np.tanh(x)
    there = backends.device_array(x)
    for chunk in (cuda._CHUNK_BYTES, 1000, 1):
        monkeypatch.setattr(cuda, "_CHUNK_BYTES", chunk)
        np.testing.assert_allclose(model.predict(x, batch_size=8), expected, rtol=1e-6)
        y = model.predict(there, batch_size=8)
        np.testing.assert_allclose(y.get(), expected, rtol=1e-6)
        with monkeypatch.context() as patch:
            patch.setattr(cuda, "place", lambda given: given)  # as if it did not fit
            np.testing.assert_allclose(model.predict(x, batch_size=8), expected, rtol=1e-6)


@pytest.mark.parametrize("fits", [True, False])
def test_a_shuffled_fit_takes_every_row_once(cuda, monkeypatch, fits):
    if not fits:
        monkeypatch.setattr(cuda, "place", lambda given: given)
        monkeypatch.setattr(cuda, "_CHUNK_BYTES", 500)
    total = dlcore.Variable(np.zeros(1, "float32"))
    program = dlcore.program.BatchProgram(
        lambda x: total.assign_add(ops.reshape(ops.sum(x), (1,))), [((3,), "float32")], 7, True
    )
    x = np.arange(63, dtype="float32").reshape(21, 3)
    index = np.random.default_rng(0).permutation(21)
    given, done = backends.place([x]), 0
    while done < 3:
        done += program.run(given, 7 * done, 3 - done, index)
    np.testing.assert_array_equal(total.numpy(), [x.sum()])


USE = (
    "import dlcore, numpy; dlcore.set_device('gpu');"
    " print(dlcore.ops.exp(numpy.zeros({n}, 'float32')).sum())"
)


@emulated
@pytest.mark.parametrize(
    ("environment", "n", "message"),
    [
        ({}, 3, "3.0"),
        ({"DLCORE_EMULATION_DEVICES": "0"}, 3, "RuntimeError: gpu: expected a GPU with cuda or"),
        ({"DLCORE_EMULATION_DRIVER": "0"}, 3, "RuntimeError: gpu: expected a GPU with cuda or"),
        ({"DLCORE_EMULATION_DRIVER": "11000"}, 3, "RuntimeError: gpu: expected a GPU with cuda"),
        ({"DLCORE_EMULATION_MEMORY": "100000"}, 1000000, "MemoryError: "),
    ],
)
def test_what_is_missing_is_told(environment, n, message):
    no_cupy = "import sys; sys.modules['cupy'] = None\n"
    code, last = python(no_cupy + USE.format(n=n), **NONE | environment)
    assert last.startswith(message), last
    assert code == int("Error" in message)


@emulated
@pytest.mark.parametrize(
    ("driver", "runtime", "wanted"), [(12080, 13000, "13.0"), (11080, 12090, "12.1"),
                                      (12000, 12090, "12.1")]
)  # fmt: skip
def test_old_drivers_are_told(driver, runtime, wanted):
    code = "from dlcore import _cuda; print(_cuda.available())"
    environment = {"DLCORE_EMULATION_DRIVER": driver, "DLCORE_EMULATION_RUNTIME": runtime}
    _, last = python(code, **NONE | {k: str(v) for k, v in environment.items()})
    assert f"expected a driver for CUDA {wanted} or newer" in last, last


@pytest.mark.parametrize("op", ["matmul", "lstm"])
def test_precision_is_that_of_when_a_program_was_made(cuda, op):
    rng = np.random.default_rng(0)
    shapes = {"matmul": ((4, 7), (7, 9)), "lstm": ((4, 3, 5), (5, 24), (6, 24))}[op]
    given = [rng.normal(size=shape).astype("float32") for shape in shapes]
    f = dlcore.function(lambda *x: getattr(ops, op)(*x))
    compiled = f.compiled(*given)
    expected = compiled(*given)[0]
    _cuda.allow_tf32(True)
    try:
        np.testing.assert_array_equal(compiled(*given)[0], expected)
    finally:
        _cuda.allow_tf32(False)


@emulated
def test_out_of_memory_leaves_the_model_usable_on_the_cpu():
    code = """
import sys; sys.modules['cupy'] = None
import numpy as np, dlcore
v = dlcore.Variable(np.ones(1000, 'float32'))
f = dlcore.function(lambda x: (v.assign(v * 2.0), x * 2.0)[1])
dlcore.set_device('gpu')
f(np.ones(10, 'float32'))
try:
    f(np.ones(1000000, 'float32'))
except MemoryError as error:
    dlcore.set_device('cpu')
    f(np.ones(1000000, 'float32'))
    print(v.numpy()[0], error)
"""
    _, last = python(code, **NONE | {"DLCORE_EMULATION_MEMORY": "1000000"})
    assert last.startswith("4.0 ") and "free" in last, last


def test_pieces_travel_while_steps_run(cuda, monkeypatch):
    monkeypatch.setattr(cuda, "place", lambda given: given)  # as if it did not fit
    monkeypatch.setattr(cuda, "_CHUNK_BYTES", 4 * 3 * 8)  # two steps of four rows
    f = lambda x: ops.sum(x, 1, keepdims=True)  # noqa: E731
    program = dlcore.program.BatchProgram(f, [((3,), "float32")], 4, False, output_rows=True)
    sides, carry = [], cuda.CudaBatches._carry
    monkeypatch.setattr(
        cuda.CudaBatches,
        "_carry",
        lambda self, side, *_: sides.append(side) or carry(self, side, *_),
    )
    x = np.random.default_rng(0).normal(size=(27, 3)).astype("float32")
    y, start = program.empty_outputs(27), 0
    for steps in (1, 2, 9, 9, 9):  # a piece may be left in the middle
        start += 4 * program.run([x], start, min(steps, 6 - start // 4), outputs=y)
        if start == 24:
            break
    np.testing.assert_allclose(y[0][:24], x[:24].sum(1, keepdims=True), rtol=1e-6)
    assert sides == ["in0", "in1", "in0"]
    assert program._compiled._feed is None
    program.run([x], 0, 1, outputs=y)
    x[8:] += 1  # a run from another row takes the rows as they are
    program.run([x], 16, 1, outputs=y)
    np.testing.assert_allclose(y[0][16:20], x[16:20].sum(1, keepdims=True), rtol=1e-6)


def test_an_error_while_a_piece_travels_is_told(cuda, monkeypatch):
    monkeypatch.setattr(cuda, "place", lambda given: given)
    monkeypatch.setattr(cuda, "_CHUNK_BYTES", 1)
    carry, calls = cuda.CudaBatches._carry, []

    def fails_later(self, *given):
        calls.append(given)
        if len(calls) > 2:
            raise MemoryError("cuda: expected memory")
        return carry(self, *given)

    monkeypatch.setattr(cuda.CudaBatches, "_carry", fails_later)
    with pytest.raises(MemoryError, match="expected memory"):
        linear().predict(np.zeros((16, 2), "float32"), batch_size=2)
