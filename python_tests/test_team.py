"""The thread team seen from Python: same bits for any size, fork, affinity, exit, settings."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

_cpu = pytest.importorskip("dlcore._cpu")

F32 = 0
ADD, MULTIPLY, TANH = (_cpu.opcodes()[name][0] for name in ("add", "multiply", "tanh"))
N = 192  # a gemm of 14 MFLOP: worth many threads


@pytest.fixture(autouse=True)
def restore_threads():
    before = _cpu.get_num_threads()
    yield
    _cpu.set_num_threads(before)


def mat(slot, offset=0, step=0, shape=(N, N)):
    return (slot, offset * N * N * 4, step, F32, shape, (N, 1))


def chain_program():
    """w <- tanh(w @ w + x_step) / 8 and so on: phases of every size."""
    scale = 0.125
    squash = [0, 1, 2, 1, 1, 3, ADD, 3, 0, 1, TANH, 3, 3, MULTIPLY, 3, 3, 2, 3]
    tiny = (0, 3 * N * N * 4, 0, F32, (1, 8), (8, 1))
    instructions = [
        ("gemm", [mat(0, 1), mat(0, 0), mat(0, 0)], [], []),
        ("pointwise", [mat(0, 0), mat(0, 1), mat(1, 0, 4 * N)], squash, [scale]),
        (
            "reduce",
            [(0, 2 * N * N * 4, 0, F32, (1, N), (N, 1)), mat(0, 0)],
            [0, 0, 1, 1, 0, 0, 0, 0],
            [],
        ),
        ("pointwise", [tiny, tiny], [0, 1, 1, 0, 1, 1, TANH, 1, 0, 1], []),
        ("gemm", [mat(0, 1), mat(0, 0), mat(0, 0)], [], []),
        (
            "pointwise",
            [mat(0, 0), mat(0, 1), (0, 2 * N * N * 4, 0, F32, (N, N), (0, 1))],
            squash,
            [scale],
        ),
    ]
    program = _cpu.Program(2, instructions, slot_bytes={0: 4 * N * N * 4})
    rng = np.random.default_rng(1)
    program.write(0, 0, rng.normal(size=(N, N)).astype(np.float32))
    program.bind(1, rng.normal(size=(N + 8, N)).astype(np.float32))
    return program


def run_chain():
    program = chain_program()
    assert program.run(0, 8) == 8
    result = program.read(0, 0, F32, [N, N])
    assert np.isfinite(result).all() and result.std() > 0.01
    return result.tobytes()


def test_same_bits_for_any_team():
    results = set()
    for threads in (1, 2, 3, 7):
        _cpu.set_num_threads(threads)
        assert _cpu.get_num_threads() == threads
        wanted = max(t for i in chain_program().instructions for t in i["threads"])
        assert wanted == threads
        results.add(run_chain())
    assert len(results) == 1


def test_programs_on_eight_python_threads():
    _cpu.set_num_threads(2)
    expected = run_chain()
    results = []
    threads = [threading.Thread(target=lambda: results.append(run_chain())) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 8 and set(results) == {expected}


def in_child(work):
    """Runs work() in a forked child and returns whether it said yes within a minute."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_after_use():
    _cpu.set_num_threads(3)
    expected = run_chain()
    assert in_child(lambda: run_chain() == expected)
    assert in_child(lambda: in_child(lambda: run_chain() == expected) and run_chain() == expected)
    assert run_chain() == expected


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_while_another_thread_runs():
    _cpu.set_num_threads(2)
    expected = run_chain()
    program = chain_program()
    stop = threading.Event()

    def work():
        while not stop.is_set():
            program.run(0, 8)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            # the program that was running in the parent must not block the child
            assert in_child(lambda: run_chain() == expected and program.run(0, 8) == 8)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt_within_a_step(threads, lasting):
    """Ctrl-C ends a long step between two instructions, and says what became of variables."""
    x, y = np.zeros((N, N), np.float32), np.zeros((N, N), np.float32)
    instruction = ("gemm", [mat(2 if lasting else 0), mat(1), mat(1)], [], [])
    _cpu.set_num_threads(threads)
    program = _cpu.Program(3, [instruction] * 20000, slot_bytes={0: x.nbytes})
    program.bind(1, x)
    program.bind(2, y)
    start = time.process_time()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match="each variable is whole" if lasting else "^$"):
        program.run(0, 1)
    assert time.process_time() - start < 1.5  # of 3
    timer.join()


def test_deadline():
    program = chain_program()
    start = time.perf_counter()
    done = program.run(0, 8, 0)
    assert done == 1
    x = np.zeros((N, N), np.float32)
    instruction = ("gemm", [mat(0), mat(1), mat(1)], [], [])
    for threads in (1, 2):
        _cpu.set_num_threads(threads)
        program = _cpu.Program(2, [instruction], slot_bytes={0: x.nbytes})
        program.bind(1, x)
        start = time.perf_counter()
        done = program.run(0, 10**9, deadline_ms=50)
        assert 1 <= done < 10**9 and time.perf_counter() - start < 10
        assert program.run(0, 3, deadline_ms=1e9) == 3
        assert program.run(0, 3, None) == 3


def run_python(code, command=(), **environment):
    return subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


THREADS = "from dlcore import _cpu; print(_cpu.get_num_threads())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_is_respected():
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{cpu}]); {THREADS}"
    result = run_python(code, DLCORE_NUM_THREADS="")
    assert result.stdout == "1\n", result.stderr


def test_workers_stay_on_the_callers_cpus():
    result = run_python(
        """
        import os
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        import numpy as np
        from dlcore import _cpu
        _cpu.set_num_threads(3)
        m = (1 << 18,)
        ints = [0, 1, 1, 0, 1, 1, _cpu.opcodes()["tanh"][0], 1, 0, 1]
        operands = [(slot, 0, 0, 0, m, (1,)) for slot in (1, 0)]
        p = _cpu.Program(2, [("pointwise", operands, ints, [])])
        x, y = np.ones(m, np.float32), np.zeros(m, np.float32)
        p.bind(0, x)
        p.bind(1, y)
        p.run(0, 20)
        tasks = [int(t) for t in os.listdir("/proc/self/task")]
        assert len(tasks) >= 3, tasks
        print({len(os.sched_getaffinity(t)) for t in tasks}, np.allclose(y, np.tanh(1)))
        """,
        OPENBLAS_NUM_THREADS="1",
    )
    assert result.stdout == "{1} True\n", result.stderr


def test_subinterpreters_are_refused():
    pytest.importorskip("_xxsubinterpreters")  # of Python 3.10 to 3.12
    result = run_python(
        """
        import _xxsubinterpreters as interpreters
        try:
            interpreters.run_string(interpreters.create(), "import dlcore")
        except interpreters.RunFailedError as error:
            print(error)
        """,
        DLCORE_BACKEND="",  # formulas do not load the compiled module
    )
    assert "expected Python's main interpreter, got a subinterpreter" in result.stdout


def test_environment():
    assert run_python(THREADS, DLCORE_NUM_THREADS="5").stdout == "5\n"
    for bad in ("0", "-1", "257", "two", "2.0", "3 4"):
        result = run_python("from dlcore import _cpu", DLCORE_NUM_THREADS=bad)
        sentence = (
            f"ImportError: DLCORE_NUM_THREADS: expected an integer from 1 to 256, got '{bad}'"
        )
        assert result.returncode != 0 and sentence in result.stderr


def test_forced_instruction_set():
    for name in _cpu.levels():
        result = run_python("from dlcore import _cpu; print(_cpu.level())", DLCORE_ISA=name)
        assert result.stdout == f"{name}\n"
    unavailable = {"baseline", "avx2", "avx512"} - set(_cpu.levels())
    for name in ("sse9", "AVX2", *unavailable):
        result = run_python("from dlcore import _cpu", DLCORE_ISA=name)
        sentence = f"expected one of {', '.join(_cpu.levels())} on this CPU, got '{name}'"
        assert result.returncode != 0 and sentence in result.stderr


@pytest.mark.parametrize("n", [0, -1, 257, 2**40, 1.5, "2", None])
def test_bad_thread_counts(n):
    before = _cpu.get_num_threads()
    with pytest.raises((ValueError, TypeError)):
        _cpu.set_num_threads(n)
    assert _cpu.get_num_threads() == before


BUSY = """
    import sys, threading, time
    sys.path.insert(0, "python_tests")
    import test_team
    test_team._cpu.set_num_threads(4)
    program = test_team.chain_program()
    program.run(0, 8)
"""


@pytest.mark.parametrize(
    "ending",
    [
        "",  # workers still spin
        "time.sleep(0.1)",  # workers sleep
        "f = lambda: [program.run(0, 8) for _ in range(10**6)]\n"
        "threading.Thread(target=f, daemon=True).start()",
        "import os; os._exit(0)",
    ],
)
def test_exit_is_clean(ending):
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = textwrap.dedent(BUSY).replace(
        '"python_tests"', repr(os.path.join(folder, "python_tests"))
    )
    result = run_python(code + ending + "\n")
    assert result.returncode == 0, result.stderr


def test_more_threads_than_cpus_is_bearable():
    _cpu.set_num_threads(7)
    program = chain_program()
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        program.run(0, 8)
        rounds.append(time.perf_counter() - start)
    # a tenth of a second; waiting that spins through time slices takes minutes
    assert min(rounds) < 5


def test_measurements():
    assert _cpu.fma_peak(1) > 1e9
    assert _cpu.read_bandwidth(1 << 20, 1) > 1e8
    _cpu.set_num_threads(1)
    assert np.isnan(_cpu.latency_ns()) and np.isnan(_cpu.two_thread_gain())
    for f in (
        lambda: _cpu.fma_peak(0),
        lambda: _cpu.read_bandwidth(-1, 1),
        lambda: _cpu.read_bandwidth(1 << 20, 300),
    ):
        with pytest.raises(ValueError, match="expected"):
            f()


def test_threadpoolctl():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    from dlcore.backends import threadpool

    threadpool.register()
    threadpool.register()  # once is enough
    _cpu.set_num_threads(3)
    mine = [d for d in threadpoolctl.threadpool_info() if d["internal_api"] == "dlcore"]
    assert [d["num_threads"] for d in mine] == [3]
    with threadpoolctl.threadpool_limits(1):
        assert _cpu.get_num_threads() == 1
    assert _cpu.get_num_threads() == 3
