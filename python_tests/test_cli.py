"""The commands: what they print and write, exit codes, and one-sentence errors."""

import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree

import pytest

import dlcore
from dlcore.bench import machine, report, runner
from dlcore.bench.cases import CASES, Target
from dlcore.bench.machine import Cores
from dlcore.cli import main
from dlcore.ops.op import OPS
from dlcore.utils.curves import save_curves
from dlcore.utils.svg import ticks

COMMAND = [sys.executable, "-c", "import sys; from dlcore.cli import main; sys.exit(main())"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_saves_model_and_curves(folder, capsys):
    assert main(["train", "--epochs", "8", "--hidden", "32,16", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert float(re.search(r"test accuracy ([\d.]+) %", out).group(1)) > 70
    assert sorted(os.listdir(folder)) == ["digits.safetensors", "digits.svg"]
    model = dlcore.models.load_model("digits.safetensors")
    (_, _), (x, y) = dlcore.datasets.digits.load_data()
    right = model.predict(x.reshape(-1, 64) / 16, verbose=0).argmax(1) == y
    assert f"{100 * right.mean():.2f} %" in out
    text = "".join(xml.etree.ElementTree.parse("digits.svg").getroot().itertext())
    if "matplotlib" not in sys.modules:
        assert "loss" in text and "validation" in text


def test_train_learns_the_digits(folder, capsys):
    assert main(["train", "--quiet"]) == 0
    accuracy = re.search(r"test accuracy ([\d.]+) %", capsys.readouterr().out).group(1)
    assert float(accuracy) >= 95


@pytest.mark.parametrize("data", ["xor", "circles", "spiral", "blobs"])
def test_train_on_toy_sets(data, folder, capsys):
    options = ["--epochs", "2", "--optimizer", "sgd", "--learning-rate", "0.1", "--dropout", "0.1"]
    options += ["--save", "model", "--plot", "curves.svg", "--batch-size", "50", "--seed", "3"]
    assert main(["train", "--data", data, "--activation", "tanh", "--threads", "1", *options]) == 0
    assert sorted(os.listdir(folder)) == ["curves.svg", "model"]
    assert "test accuracy" in capsys.readouterr().out


def test_train_same_seed_same_result(folder, capsys):
    outs = []
    for _ in range(2):
        assert main(["train", "--epochs", "1", "--quiet", "--seed", "5"]) == 0
        outs.append(capsys.readouterr().out.split(";")[0])
    assert outs[0] == outs[1]


def test_train_zero_epochs(folder):
    assert main(["train", "--epochs", "0", "--quiet"]) == 0
    assert os.listdir(folder) == ["digits.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["chek"], "COMMAND: expected one of train, info, check, bench, got 'chek'; did you mean"),
        (["train", "--data", "minst"], "got 'minst'; did you mean 'mnist'?"),
        (["train", "--epoch-s=3"], "got '--epoch-s=3'; did you mean '--epochs'?"),
        (["train", "--epochs", "-1"], "0 or more, got '-1'"),
        (["train", "--epochs", "many"], "got 'many'"),
        (["train", "--hidden", "12,x"], "got 'x'"),
        (["train", "--hidden", "0"], "1 or more, got '0'"),
        (["train", "--optimizer", "adm"], "adam"),
        (["train", "--activation", "rleu"], "relu"),
        (["train", "--learning-rate", "-1"], "learning rate"),
        (["train", "--dropout", "2"], "rate"),
        (["train", "--save", "no/such/folder/model"], "no/such/folder/model"),
        (["train", "--plot", "no/such/folder/a.svg"], "no/such/folder/a.svg"),
        (["train", "--plot", "."], "'.'"),
        (["train", "--threads", "0"], "got '0'"),
        (["bench", "--only", "nothing of the kind"], "--only"),
        (["bench", "--only", "gemm", "--peers", "numpi"], "numpy"),
        (["bench", "--device", "abacus"], "abacus"),
        (["bench", "--only", "relu", "--json", "no/such/a.json"], "no/such/a.json"),
        (["check", "--only", "relu", "--plot", "no/such/a.svg"], "no/such/a.svg"),
        (["info", "extra"], "extra"),
    ],
)
def test_errors_are_one_sentence(arguments, words, folder, capsys):
    try:
        code = main(arguments)
    except SystemExit as exit:  # argparse
        code = exit.code
    err = capsys.readouterr().err
    assert code == 2 and words in err
    assert err.startswith("dlcore") and err.endswith("\n") and err.count("\n") == 1
    assert os.listdir(folder) == []


def test_a_damaged_data_set_is_one_sentence(folder, capsys, monkeypatch):
    monkeypatch.setenv("DLCORE_DATA", str(folder))
    (folder / "mnist").mkdir()
    (folder / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"not gzip")
    assert main(["train", "--data", "mnist"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("dlcore: mnist: expected") and err.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_interrupt(folder):
    process = subprocess.Popen(
        [*COMMAND, "train", "--epochs", "100000"],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    next(line for line in process.stdout if line.startswith("Epoch 2"))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "dlcore: interrupted" and "Traceback" not in err


def test_info(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for words in (dlcore.__version__, dlcore.isa(), f"{dlcore.get_num_threads()} of", "devices"):
        assert words in out


def test_help_lists_every_command():
    out = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(name in out for name in ("train", "info", "bench"))


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"dlcore {dlcore.version()}\n"


@pytest.mark.parametrize("arguments", [["bench", "--list"], ["train", "--epochs", "200"]])
def test_a_reader_that_has_seen_enough(arguments, folder):
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode in (0, 141)  # 0: all was said before


def test_nobody_reads(folder):
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m dlcore bench --list >&-"], capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_check_compares_every_op_with_its_formula(folder, capsys, monkeypatch):
    arguments = ["check", "--only", "tanh,max_pool,argmax", "--json", "c.json", "--plot", "c.svg"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "tanh " in out and "max_pool " in out and "all right" in out
    with open("c.json") as file:
        results = json.load(file)
    assert {r["op"] for r in results["results"]} >= {"tanh", "max_pool", "argmax"}
    assert results["machine"]["backend"] == dlcore.backends.active()
    assert os.path.getsize("c.svg") > 0
    right = OPS["tanh"].formula
    monkeypatch.setattr(OPS["tanh"], "formula", lambda xp, x: right(xp, x) * 1.001)
    assert main([*arguments, "--dtype", "float32"]) == int(dlcore.isa() != "numpy")
    assert main(["check", "--only", "nothing"]) == 2


def test_bench_writes_table_json_and_picture(folder, capsys):
    arguments = ["bench", "--only", "gemm 32x10x128,import", "--peers", "numpy", "--rounds", "2"]
    files = ["--json", "r.json", "--table", "r.md", "--plot", "r.svg", "--sample-ms", "1"]
    assert main([*arguments, "--threads", "1", *files]) == 0
    with open("r.json") as file:
        results = json.load(file)
    rows = {row["case"]: row for row in results["rows"]}
    assert set(rows) == {"gemm 32x10x128", "import"}
    assert set(rows["gemm 32x10x128"]["times"]) == {"dlcore", "numpy"}
    assert results["versions"]["numpy"] and results["machine"]["processor"]
    with open("r.md") as file:
        assert "| gemm 32x10x128 | 1 |" in file.read()
    assert xml.etree.ElementTree.parse("r.svg").getroot() is not None


def test_bench_lists_cases(capsys):
    assert main(["bench", "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [case.name for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bench_case_runs(case, monkeypatch):
    """dlcore and NumPy can do every case; the large ones are left to the benchmark itself."""
    from dlcore.bench.adapters import common, keras
    from dlcore.bench.adapters.formulas import NumPy

    monkeypatch.setattr(common, "ROWS", 512)
    if case.method == "import_time" or case.bytes > 1e8 or case.flops > 5e8:
        pytest.skip("large, or of the runner")
    for adapter in (keras.Dlcore(1), NumPy(1)):
        call, units = getattr(adapter, case.method)(*case.args)
        call()
        assert units >= 1


@pytest.mark.parametrize(
    ("method", "shape"),
    [("image_rows", (4, 3, 8, 5)), ("reviews", (5, 30, 8, 4)), ("gpt", (4, 7, 8, 2, 1))],
)
def test_bench_trains_small_sequences(method, shape):
    from dlcore.bench.adapters import keras

    call, units = getattr(keras.Dlcore(1), f"train_{method}")(shape, 2)
    call()
    assert units == 10


def test_states():
    near, far, shared = Cores(90.0, 1.9), Cores(450.0, 2.0), Cores(30.0, 1.02)
    assert machine.state(near, near) == "A" and machine.state(far, far) == "B"
    assert machine.state(shared, shared) == "S" and machine.state(near, shared) is None
    assert machine.state(Cores(), machine.cores(1)) == "-" and machine.state(near, far) is None


class Immediate:
    """A library whose samples take no time."""

    def __init__(self, name):
        self.name, self.as_installed = name, True

    def ask(self, do, **request):
        return {"seconds": 1.0, "rate": 1.0}


@pytest.mark.parametrize(("turns", "rows"), [(0, ["A"]), (3, ["A"]), (1000, ["S"])])
def test_samples_of_threads_on_one_core_wait_for_two(turns, rows, monkeypatch):
    """...and are told as such only if there never are two."""
    readings = iter([Cores(30.0, 1.0)] * turns + [Cores(90.0, 2.0)] * 1000)
    monkeypatch.setattr(machine, "cores", lambda threads: next(readings))
    monkeypatch.setattr(runner, "PAUSE", 0)
    libraries = [Immediate("dlcore"), Immediate("peer")]
    measured = runner.measure(CASES[0], 2, libraries, 3)
    assert [row["state"] for row in measured] == rows
    assert all(row["times"]["dlcore"]["samples"] >= 3 for row in measured)


@pytest.mark.parametrize(
    ("target", "seconds", "met"),
    [
        (Target("share", 0.9), 1.0, True),
        (Target("share", 0.96), 1.0, False),
        (Target("ratio", 1.5), 1.0, True),  # against the best, b
        (Target("ratio", 2.5), 1.0, False),
        (Target("ratio", 2.5, "a"), 1.0, True),
        (Target("ratio", 2.5, "c"), 1.0, None),
        (Target("seconds", 0.5), 1.0, False),
        (Target("above", 0.5, "b"), 2.4, True),
    ],
)
def test_targets(target, seconds, met):
    assert target.met(seconds, 0.95, {"a": 3.0, "b": 2.0}) is met


def test_a_library_that_is_not_there_is_named():
    libraries, absent = runner.open_libraries(["torch"], ["/no/such/python"], 1, 0.001)
    assert libraries == [] and "torch" in absent


def test_durations():
    assert [report.duration(x) for x in (2.5, 0.0125, 3.2e-5, 4e-9)] == [
        "2.5 s", "12.5 ms", "32 us", "4 ns",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "low, high", [(0, 1), (0.1, 0.93), (5, 5), (0, 0), (-3e4, 2), (1e-9, 2e-9)]
)
def test_ticks_cover_the_range(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low + 1e-12 and marks[-1] >= high - 1e-12 and 2 <= len(marks) <= 12


def test_curves(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    history = {"loss": [2.0, float("nan"), 0.5], "val_loss": [2.1, 1.0, 0.7], "accuracy": [0.1]}
    save_curves(history, "a.svg")
    xml.etree.ElementTree.parse("a.svg")
    with pytest.raises(ValueError, match=r"save_curves: expected a name that ends in \.svg"):
        save_curves(history, "a.png")
    with pytest.raises(ValueError, match="got an empty one"):
        save_curves({}, "b.svg")
    assert os.listdir(folder) == ["a.svg"]


@pytest.mark.parametrize("variable", ["DLCORE_DEVICE", "DLCORE_BACKEND"])
def test_wrong_variables_are_one_sentence(variable, tmp_path):
    """The command has no more to say of them; in a script they are an ImportError."""
    script = tmp_path / "dlcore"
    script.write_text(COMMAND[-1])
    paths = os.pathsep.join([os.path.dirname(os.path.dirname(dlcore.__file__)), *sys.path])
    environment = os.environ | {variable: "foo", "PYTHONPATH": paths}
    for command in (["-m", "dlcore", "info"], [str(script), "info"], ["-c", "import dlcore"]):
        result = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True
        )
        if command[0] == "-c":
            assert result.returncode == 1 and f"ImportError: {variable}: expected" in result.stderr
        else:
            assert result.returncode == 2 and result.stdout == ""
            assert result.stderr.startswith(f"dlcore: {variable}: expected one of")
            assert result.stderr.count("\n") == 1
