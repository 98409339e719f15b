"""Runs the cases: every library in a process of its own, their samples in turn.

The processors of a virtual machine move, and with them the clock, the memory bandwidth and the
time for a cache line between cores (state A: one core complex, B: two); at times two of them are
the two threads of one core (state S). So samples of all libraries interleave, the state is measured
before and after each, a sample during which it changed is dropped, the machine's limit is measured
in every round, only samples of one state are compared, and state S is waited out. All processes but
the one that is asked stand still: threads of some libraries spin for tens of milliseconds after a
call, and would take a core from the next one.
"""

import json
import math
import os
import select
import signal
import statistics
import subprocess
import sys
import time

from dlcore.bench import adapters, machine

TIMEOUT = 600  # seconds without an answer before a library is given up
ATTEMPTS = 4  # times the wanted rounds, to find enough of them in one state
SLOW, SLOW_ROUNDS = 3.0, 3  # a library that much slower than the best needs only a few samples
FEWEST = 3  # samples in one state that make a figure
PATIENCE, PAUSE = 10, 0.3  # times and seconds to wait for two threads to have a core each


class Library:
    """A library in its process.

    Raises
    ------
    LookupError
        The interpreter cannot import it.
    """

    def __init__(self, name, python, threads, sample_seconds, device="cpu"):
        _, environment, self.as_installed = adapters.on(device)[name]
        folder = os.path.dirname(os.path.abspath(__file__))
        self.name = name
        self._process = subprocess.Popen(
            [python, f"{folder}/worker.py", name, str(threads), str(sample_seconds), device],
            env=_environment(threads) | environment | _path(name, folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        hello = self._answer()
        self._process.send_signal(signal.SIGSTOP)
        if "version" not in hello:
            self.close()
            raise LookupError(hello.get("absent", "its process ended"))
        self.version = hello["version"]

    def ask(self, do, **request):
        """Send a request; the answer's dict, {"absent": why} if the process is gone. The process
        runs until it has answered.
        """
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except OSError:
            return {"absent": "its process ended"}
        answer = self._answer()
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def _answer(self):
        if not select.select([self._process.stdout], [], [], TIMEOUT)[0]:
            self._process.kill()
            return {"absent": f"no answer within {TIMEOUT} s"}
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"absent": "its process ended"}

    def close(self):
        self._process.kill()
        self._process.communicate()


def _environment(threads):
    names = ("DLCORE", "OMP", "OPENBLAS", "MKL", "NUMEXPR")
    return dict(os.environ) | {f"{name}_NUM_THREADS": str(threads) for name in names}


def _path(name, folder):
    """The process of dlcore imports the package that this file belongs to; the others theirs."""
    if not name.startswith("dlcore"):
        return {"PYTHONPATH": ""}
    root = os.path.dirname(os.path.dirname(folder))
    return {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def open_libraries(names, pythons, threads, sample_seconds, device="cpu"):
    """(libraries, {name: why absent}); each from the first of the interpreters that has it."""
    libraries, absent = [], {}
    for name in names:
        own = name.startswith(("dlcore", "numpy"))
        for python in [sys.executable] if own else pythons:
            try:
                libraries.append(Library(name, python, threads, sample_seconds, device))
                absent.pop(name, None)
                break
            except (LookupError, OSError) as error:
                absent[name] = str(error)
    return libraries, absent


def run(cases, names, pythons, threads_list, rounds, sample_seconds, tell, save, device="cpu"):
    """Measure `cases`.

    Parameters
    ----------
    cases : list of Case
    names : list of str
        Keys of `adapters.on(device)`; "dlcore" must be the first.
    pythons : list of str
        Interpreters to look for the libraries in.
    threads_list : list of int
    rounds : int
        Samples wanted of each library in one state.
    sample_seconds : float
        Length of a sample.
    tell : callable
        Takes a line of text about the progress.
    save : callable
        Takes the results so far, after each case: an interrupted run leaves what it measured.
    device : {"cpu", "gpu"}

    Returns
    -------
    dict with "machine", "limits", "versions", "absent" and "rows".
    """
    results = {"limits": {}, "versions": {}, "absent": {}, "rows": []}
    results["machine"] = machine.describe()
    for threads in threads_list:
        libraries, absent = open_libraries(names, pythons, threads, sample_seconds, device)
        if "dlcore" in absent:
            raise ValueError(f"bench: expected dlcore to start, got {absent['dlcore']}")
        results["absent"] |= absent
        results["versions"] |= {library.name: library.version for library in libraries}
        try:
            results["limits"][threads] = _limits(libraries, tell, threads, device)
            for case in cases:
                if case.method == "import_time" and threads != 1:
                    continue
                rows = measure(case, threads, libraries, rounds)
                results["rows"] += rows
                for row in rows:
                    tell(progress_line(row))
                save(results)
        finally:
            for library in libraries:
                library.close()
    return results


def _limit(libraries, name):
    """Flop/s or bytes/s, by the first library that can tell; else NaN."""
    answers = (x.ask("limit", name=name).get("rate", math.nan) for x in libraries)
    return next(filter(math.isfinite, answers), math.nan)


def _limits(libraries, tell, threads, device):
    limits = {}
    if device == "gpu":
        rate = _limit(libraries, "copy")
        if math.isfinite(rate):
            limits["copy"] = rate
            tell(f"limit: {rate / 1e9:.0f} GB/s of a copy on the GPU")
        return limits
    for name in ("fma", "l2", "l3", "dram"):
        rate = _limit(libraries[:1], name)
        if not math.isfinite(rate):
            continue
        limits[name] = rate
        unit = "GFLOP/s multiply-add" if name == "fma" else f"GB/s read from {name.upper()}"
        tell(f"limit, {threads} thread(s): {rate / 1e9:.1f} {unit}")
    tell("cache line between cores: {:.0f} ns, two threads / one: {:.2f}".format(*machine.cores(2)))
    return limits


def measure(case, threads, libraries, rounds):
    """The rows of one case, one for each state that enough samples fell into."""
    do, request = "prepare", {"method": case.method, "args": case.args}
    if case.method == "import_time":
        do, request = "import_time", {}
    first, absent = {}, {}
    for library in libraries:
        answer = library.ask(do, **request)
        if "seconds" in answer:
            first[library] = answer["seconds"]
        else:
            absent[library.name] = answer["absent"]
    slow = SLOW * min(first.values(), default=0)
    wanted = {x: rounds if t <= slow else min(rounds, SLOW_ROUNDS) for x, t in first.items()}
    samples, limits, latencies = _sample(case, threads, libraries, wanted, rounds)
    peers = {x.name for x in libraries if x.as_installed and x.name != "dlcore"}
    return [
        _row(case, threads, state, samples, limits, latencies, absent, peers)
        for state in _comparable({state for _, state in samples})
        if len(samples.get((libraries[0].name, state), ())) >= min(FEWEST, rounds)
    ]


def _sample(case, threads, libraries, wanted, rounds):
    """Rounds over the libraries until one state has all the samples wanted."""
    samples, limits, latencies = {}, {}, {}
    do = "import_time" if case.method == "import_time" else "sample"
    for attempt in range(ATTEMPTS * rounds):
        before = _cores(threads)
        for library, count in wanted.items():
            if len(samples.get((library.name, before.state), ())) >= count:
                continue
            answer = library.ask(do)
            after = machine.cores(threads)
            state = machine.state(before, after)
            before = after
            if state and "seconds" in answer:
                samples.setdefault((library.name, state), []).append(answer["seconds"])
                latencies.setdefault(state, []).append(after.latency)
        if case.limit and attempt < rounds:
            rate = _limit(libraries if case.limit == "copy" else libraries[:1], case.limit)
            state = machine.state(before, machine.cores(threads))
            if state and math.isfinite(rate):
                limits.setdefault(state, []).append(rate)
        if any(
            all(len(samples.get((x.name, s), ())) >= count for x, count in wanted.items())
            for s in {state for _, state in samples}
        ):
            break
    return samples, limits, latencies


def _cores(threads):
    """The state of the cores, after a wait if two threads share one."""
    for _ in range(PATIENCE):
        now = machine.cores(threads)
        if now.state != "S":
            break
        time.sleep(PAUSE)
    return now


def _comparable(states):
    """`states` in order; what two threads on one core do is told if nothing else can be."""
    return sorted(states - {"S"} or states)


def _row(case, threads, state, samples, limits, latencies, absent, names):
    times = {
        name: {"median": statistics.median(v), "min": min(v), "max": max(v), "samples": len(v)}
        for (name, s), v in samples.items()
        if s == state
    }
    limit = {case.limit: statistics.median(limits[state])} if limits.get(state) else {}
    seconds = times["dlcore"]["median"]
    peers = {name: t["median"] for name, t in times.items() if name in names}
    best = min(peers, key=peers.get, default=None)
    share = case.share(seconds, limit)
    return {
        "case": case.name,
        "threads": threads,
        "state": state,
        "latency_ns": statistics.median(latencies[state]),
        "limit": case.limit,
        "limit_rate": limit.get(case.limit),
        "share": share,
        "best_peer": best,
        "ratio": peers[best] / seconds if best else None,
        "targets": [
            {"target": str(t), "met": t.met(seconds, share, peers)}
            for t in case.targets.get(threads, ())
        ],
        "times": times,
        "absent": absent,
    }


def progress_line(row):
    """A row in one line, for reading while the rest is measured."""
    from dlcore.bench.report import duration

    text = f"{row['case']}, {row['threads']} thread(s), state {row['state']}: "
    text += duration(row["times"]["dlcore"]["median"])
    if row["share"] is not None:
        text += f", {100 * row['share']:.0f} % of {row['limit']}"
    if row["best_peer"]:
        text += f", {row['ratio']:.2f} x {row['best_peer']}"
    return text
