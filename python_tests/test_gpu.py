"""Devices: CuPy as the fallback on a GPU, tested on arrays that follow CuPy's rules without a GPU
(python_tests/standin), and who chooses."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import test_ops

import dlcore
from dlcore import backends, layers, ops
from dlcore.bench import gpu_cases
from dlcore.bench.adapters import common, gpu
from dlcore.check import cases, oracle
from dlcore.cli import main

STANDIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "standin")


@contextlib.contextmanager
def on_gpu(name):
    """The library on the backend `name` of a GPU."""
    before = backends._forced, backends._gpu
    device = dlcore.get_device()
    dlcore.set_device("cpu")
    backends._forced, backends._gpu = name, None
    try:
        dlcore.set_device("gpu")
        yield
    finally:
        dlcore.set_device("cpu")
        backends._forced, backends._gpu = before
        dlcore.set_device(device)


@contextlib.contextmanager
def standin(monkeypatch):
    """The stand-in of CuPy, and the library on it."""

    def of_cupy():
        return [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupyx")]

    for name in of_cupy():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(STANDIN)
    with on_gpu("cupy"):
        import cupy

        yield cupy
    for name in of_cupy():
        sys.modules.pop(name)


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in of CuPy, and the library on it."""
    with standin(monkeypatch) as cupy:
        yield cupy


@pytest.fixture(params=["cupy", "cuda"])
def gpu_backend(request, monkeypatch):
    """The library on each backend of GPUs that this build and machine have."""
    if request.param == "cuda":
        _cuda = pytest.importorskip("dlcore._cuda")
        if _cuda.available() is not None:
            pytest.skip(_cuda.available())
    with standin(monkeypatch) if request.param == "cupy" else on_gpu("cuda"):
        yield request.param


def moved(cupy, f):
    """(copies to the device, copies to the host) during f()."""
    before = dict(cupy.moved)
    f()
    return tuple(cupy.moved[way] - before[way] for way in ("to_device", "to_host"))


# Ops


@pytest.mark.parametrize("row", cases.ROWS, ids=str)
def test_every_row_on_cupy(cupy, row):
    xs = row.inputs("float32")
    there = [cupy.asarray(x) for x in xs]
    f = row.function()
    ys = oracle.as_list(f(*there))
    for y, e in zip(ys, oracle.run(f, [oracle.wide(x) for x in xs]), strict=True):
        assert type(y) is cupy.ndarray
        test_ops.close(y.get(), e, "float32", 4 * row.ulps)
    if not row.gradient:
        return
    loss = oracle.weighted(row.function(), [oracle.wide(x) for x in xs])
    floats = tuple(i for i, x in enumerate(xs) if x.dtype.kind == "f")
    value, dxs = dlcore.value_and_grad(loss, floats)(*there)
    expected_value, expected = oracle.gradient(loss, [oracle.wide(x) for x in xs])
    test_ops.close(value.get(), expected_value, "float32", 32 * row.ulps)
    for dx, e in zip(dxs, expected, strict=True):
        test_ops.close(dx.get(), e, "float32", 16 * row.ulps)


def test_ops_that_need_concrete_arrays(cupy):
    x = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0]], "float32")
    there = cupy.asarray(x)
    for name, args in (("sort", ()), ("argsort", ()), ("cumsum", (1,)), ("unique", ())):
        y = getattr(ops, name)(there, *args)
        np.testing.assert_array_equal(y.get(), getattr(ops, name)(x, *args))
    for a, b in zip(ops.top_k(there, 2), ops.top_k(x, 2), strict=True):
        np.testing.assert_array_equal(a.get(), b)
    assert type(ops.convert_to_tensor(there)) is cupy.ndarray
    np.testing.assert_array_equal(ops.convert_to_numpy(there), x)


def test_arrays_of_both_sides_meet_on_the_gpu(cupy):
    x = np.arange(3, dtype="float32")
    y = ops.add(cupy.asarray(x), x)
    assert type(y) is cupy.ndarray
    np.testing.assert_array_equal(y.get(), x + x)
    assert type(ops.add(x, x)) is np.ndarray  # what comes from the host goes back there
    v = dlcore.Variable(x)
    np.testing.assert_array_equal(ops.add(cupy.asarray(x), v).get(), x + x)


def test_layouts_and_types_of_arrays(cupy):
    x = np.arange(12, dtype="float32").reshape(3, 4)
    there = cupy.asarray(x)
    np.testing.assert_array_equal(ops.exp(there.T).get(), ops.exp(x.T))
    np.testing.assert_array_equal(ops.square(there[:, ::2]).get(), x[:, ::2] ** 2)
    np.testing.assert_array_equal(ops.add(there.astype("float16"), 1.0).get(), x + 1)
    with pytest.raises(TypeError, match="array: expected one of"):
        ops.exp(there.astype("complex64"))


def test_dlpack_on_a_gpu_is_taken(cupy):
    class Other:
        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self):
            return np.ones(3, "float32").__dlpack__()

    assert type(ops.exp(Other())) is cupy.ndarray


# Models


def points(n=200):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32") + (x[:, 1] > 0)


def mlp():
    dlcore.utils.set_random_seed(1)
    model = dlcore.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.1),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def convnet():
    dlcore.utils.set_random_seed(1)
    model = dlcore.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def recurrent():
    dlcore.utils.set_random_seed(1)
    model = dlcore.Sequential(
        [
            layers.Input((6,)),
            layers.Embedding(9, 4),
            layers.LSTM(5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def data_for(build):
    x, y = points()
    if build is convnet:
        x = np.repeat(x, 6, axis=1).reshape(-1, 6, 6, 1)
    if build is recurrent:
        x = (np.abs(x) * 3).astype("int32") % 9
    return x, y


@pytest.mark.parametrize("build", [mlp, convnet, recurrent])
def test_training_as_on_the_cpu(gpu_backend, build):
    x, y = data_for(build)
    results = []
    for device in ("cpu", "gpu"):
        dlcore.set_device(device)
        model = build()
        history = model.fit(x, y, epochs=2, verbose=0, validation_split=0.1).history
        results.append((history, model.evaluate(x, y, verbose=0), model.predict(x)))
    (a, b, c), (d, e, f) = results
    for name in a:
        np.testing.assert_allclose(a[name], d[name], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(b, e, rtol=1e-4)
    np.testing.assert_allclose(c, f, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("build", [mlp, convnet, recurrent])
def test_mixed_precision_as_on_the_cpu(gpu_backend, build, policy):
    x, y = data_for(build)
    results = []
    dlcore.config.set_dtype_policy(policy)
    try:
        for device in ("cpu", "gpu"):
            dlcore.set_device(device)
            model = build()
            losses = model.fit(x, y, epochs=2, verbose=0, shuffle=False).history["loss"]
            results.append((losses, model.predict(x, verbose=0)))
    finally:
        dlcore.config.set_dtype_policy(None)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.03, atol=0.01)


def test_weights_and_data_stay_on_the_device(cupy):
    x, y = points()
    model = mlp()
    model.fit(x, y, epochs=1, verbose=0)
    few = moved(cupy, lambda: model.fit(x, y, batch_size=100, epochs=1, verbose=0))
    many = moved(cupy, lambda: model.fit(x, y, batch_size=5, epochs=1, verbose=0))
    assert many[1] == few[1]  # metrics come back once
    assert many[0] <= few[0] + 20  # no more copies for 38 steps more, but for constants


def test_data_that_does_not_fit_travels_by_batch(cupy, monkeypatch):
    x, y = points()
    model = mlp()
    expected = model.evaluate(x, y, verbose=0)
    monkeypatch.setattr(cupy, "MEMORY", [100, 200])
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), expected)
    np.testing.assert_allclose(model.predict(x), model.predict(cupy.asarray(x)).get())
    model.fit(x, y, epochs=1, verbose=0)


def test_data_on_the_device(cupy):
    x, y = points()
    there = cupy.asarray(x), cupy.asarray(y)
    a = mlp().fit(x, y, epochs=1, verbose=0).history["loss"]
    model = mlp()
    assert a == model.fit(*there, epochs=1, verbose=0).history["loss"]
    assert type(model.predict(there[0])) is cupy.ndarray
    assert type(model.predict(there[0][:3])) is cupy.ndarray
    assert type(model(there[0][:3])) is cupy.ndarray
    assert type(model.predict(x)) is np.ndarray
    model.train_on_batch(there[0][:10], there[1][:10])
    model.evaluate(*there, verbose=0)


def test_a_model_moves_between_devices(gpu_backend, tmp_path):
    x, y = points()
    model = mlp()
    model.fit(x, y, epochs=1, verbose=0)
    expected = model.predict(x)
    model.save(tmp_path / "a.safetensors")
    dlcore.set_device("cpu")
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-6)
    loaded = dlcore.models.load_model(tmp_path / "a.safetensors")
    np.testing.assert_allclose(loaded.predict(x), expected, rtol=1e-4, atol=1e-6)
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "b.safetensors")
    expected = model.predict(x)
    dlcore.set_device("gpu")
    loaded = dlcore.models.load_model(tmp_path / "b.safetensors")
    for m in (model, loaded):
        np.testing.assert_allclose(m.predict(x), expected, rtol=1e-4, atol=1e-6)


def test_variables_changed_on_either_side(gpu_backend):
    v = dlcore.Variable([1.0, 2.0])
    w = dlcore.Variable(5.0)
    dlcore.program.pack([v, w])
    double = dlcore.function(lambda: v.assign(v * 2.0))
    double()
    w.assign(6.0)
    v.assign_add([1.0, 0.0])
    double()
    np.testing.assert_array_equal(v.numpy(), [6, 8])
    assert float(w) == 6
    with pytest.raises(ValueError, match="read-only"):
        v.value[...] = 0
    assert float(w) == 6.0
    dlcore.set_device("cpu")
    double()
    np.testing.assert_array_equal(v.value, [12, 16])
    dlcore.set_device("gpu")
    there = backends.device_array(np.ones(2, "float32"))
    v.assign(there)
    np.testing.assert_array_equal(dlcore.Variable(there).numpy(), v.numpy())


def test_out_of_memory_leaves_the_model_usable_on_the_cpu(cupy, monkeypatch):
    x, y = points()
    model = mlp()
    model.fit(x, y, epochs=1, verbose=0)
    expected = model.predict(x)

    def full(*_, **__):
        raise MemoryError("Out of memory allocating 512 bytes")

    monkeypatch.setattr(cupy, "matmul", full)
    with pytest.raises(MemoryError, match="512"):
        model.fit(x, y, epochs=1, verbose=0)
    dlcore.set_device("cpu")
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-6)


def test_a_failed_gpu_leaves_what_the_host_has(cupy, monkeypatch):
    v = dlcore.Variable(1.0)
    dlcore.function(lambda: v.assign(v * 2.0))()

    def failed(*_, **__):
        raise RuntimeError("cudaErrorIllegalAddress")

    monkeypatch.setattr(cupy.ndarray, "get", failed)
    with pytest.warns(RuntimeWarning, match="the GPU is lost: cudaErrorIllegalAddress"):
        dlcore.set_device("cpu")
    assert float(v) == 1.0


def test_a_fork_has_the_weights_and_no_gpu(gpu_backend):
    v = dlcore.Variable(1.0)
    double = dlcore.function(lambda: v.assign(v * 2.0))
    double()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with pytest.raises(RuntimeError, match=r"fork|the process that first"):
                double()
            dlcore.set_device("cpu")
            double()
            code = 0 if float(v) == 4 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Choosing


def test_arrays_of_a_gpu_on_the_cpu(cupy):
    x, y = points()
    model = mlp()
    dlcore.set_device("cpu")
    there = cupy.asarray(x)
    assert type(ops.exp(there)) is cupy.ndarray
    with pytest.raises(TypeError, match="fit: expected x on device 'cpu', got an array of a GPU"):
        model.fit(there, y)
    v = dlcore.Variable(x)
    with pytest.raises(ValueError, match=r"call dlcore.set_device\('gpu'\)"):
        dlcore.function(lambda x: x + v)(there)


def test_wrong_devices_are_refused():
    with pytest.raises(ValueError, match="set_device: expected 'cpu' or 'gpu', got 'tpu'"):
        dlcore.set_device("tpu")


def python(code, **environment):
    """(exit code, last line) of `code` in a fresh interpreter without CuPy."""
    environment = {k: v for k, v in (os.environ | environment).items() if v is not None}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1]


NO_CUPY = "import sys; sys.modules['cupy'] = None\n"
USE = NO_CUPY + "import dlcore, numpy; dlcore.ops.exp(numpy.ones(3)); print(dlcore.get_device())"
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "DLCORE_EMULATION_DEVICES": "0"}
NONE = {"DLCORE_BACKEND": None, "DLCORE_DEVICE": None}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"DLCORE_DEVICE": "gpu"} | NO_GPU, "RuntimeError: gpu: expected a GPU"),
        ({"DLCORE_BACKEND": "cupy"}, "RuntimeError: gpu: expected a GPU with cupy, got cupy: "),
        ({"DLCORE_BACKEND": "numpy"}, "cpu"),
        ({"DLCORE_DEVICE": "tpu"}, "ImportError: DLCORE_DEVICE: expected one of cpu, gpu"),
        ({"DLCORE_BACKEND": "metal"}, "ImportError: DLCORE_BACKEND: expected one of cpu, numpy"),
        (
            {"DLCORE_BACKEND": "numpy", "DLCORE_DEVICE": "gpu"},
            "ImportError: DLCORE_DEVICE: expected 'cpu' for 'numpy', got 'gpu'",
        ),
    ],
)
def test_the_environment_chooses(environment, message):
    code, last = python(USE, **NONE | environment)
    assert last.startswith(message), last
    assert code == int("Error" in message)


def test_the_import_touches_no_gpu():
    code, last = python(
        "import sys, dlcore; print([m for m in ('cupy', 'dlcore._cuda') if m in sys.modules])",
        **NONE | {"DLCORE_DEVICE": "gpu", "PYTHONPATH": os.pathsep.join(
            [STANDIN, os.environ.get("PYTHONPATH", "")]
        )},
    )  # fmt: skip
    assert (code, last) == (0, "[]")


# Commands


def test_info_tells_what_runs_and_what_compiled_kernels_would_add(cupy, capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for words in ("cupy on device 'gpu'", "Stand-in, compute capability 9.0", "GB free",
                  "for CUDA 13.0", "DLCORE_CUDA=ON"):  # fmt: skip
        assert words in out


def test_check_on_cupy(cupy, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--device", "gpu", "--only", "tanh,conv,adam"]) == 0
    assert "on Stand-in: all right" in capsys.readouterr().out
    assert (tmp_path / "check-gpu.json").exists() and (tmp_path / "check-gpu.svg").exists()


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("gemm", (3, 4, 5, "")),
        *[("pointwise", (f, 10)) for f in ("relu", "exp", "gelu")],
        ("softmax", (4, 5)),
        ("layer", ("layer_norm", (4, 5))),
        ("layer", ("batch_norm", (2, 3, 3, 4))),
        ("adam", (10,)),
        ("train", ((4, 5, 3), 64, "classes")),
        ("train_net", ("mnist", 1)),
    ],
)
def test_benchmarks_of_a_gpu(cupy, monkeypatch, method, args):
    """What dlcore and CuPy do in `dlcore bench --device gpu`, at small sizes."""
    monkeypatch.setattr(gpu, "_COPIED", 1000)
    monkeypatch.setattr(common, "ROWS", 128)
    for adapter in (gpu.DlcoreGpu(1), gpu.Cupy(1)):
        if hasattr(adapter, method):
            call, units = getattr(adapter, method)(*args)
            call()
            adapter.finish()
            assert units >= 1
    assert gpu.Cupy(1).limit("copy") > 0


def test_cases_of_a_gpu_are_done_by_dlcore_and_torch():
    for case in gpu_cases.GPU_CASES:
        for adapter in (gpu.DlcoreGpu, gpu.TorchGpu):
            assert hasattr(adapter, case.method), case.name


def test_bench_on_a_gpu_writes_table_json_and_picture(cupy, monkeypatch, tmp_path):
    """Its processes find the stand-in too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DLCORE_BACKEND", raising=False)  # the processes choose for themselves
    monkeypatch.setenv("PYTHONPATH", STANDIN, prepend=os.pathsep)
    case = gpu_cases.Case("exp", "pointwise", ("exp", 1000), 0, 8000, "copy", {})
    monkeypatch.setattr(gpu_cases, "GPU_CASES", [case])
    arguments = ["--rounds", "1", "--sample-ms", "1", "--peers", "dlcore@cupy", "--table", "t.md"]
    assert main(["bench", "--device", "gpu", *arguments]) == 0
    with open("bench-gpu.json") as file:
        results = json.load(file)
    assert set(results["rows"][0]["times"]) == {"dlcore", "dlcore@cupy"}
    assert results["machine"]["device"] == "Stand-in"
    assert os.path.getsize("bench-gpu.svg") and os.path.getsize("t.md")


@pytest.mark.parametrize("command", ["check", "bench"])
def test_commands_without_a_gpu_say_so(command):
    arguments = f"['{command}', '--device', 'gpu']"
    code = f"import sys; from dlcore.cli import main; sys.exit(main({arguments}))"
    code, last = python(NO_CUPY + code, **NONE | NO_GPU)
    assert (code, last[:29]) == (2, "dlcore: gpu: expected a GPU w")
