"""The process one library is measured in: reads a request a line, answers with a line of JSON.

    {"do": "prepare", "method": ..., "args": [...]}  ->  {"seconds": of one unit} or {"absent": why}
    {"do": "sample"}                                 ->  {"seconds": of one unit}
    {"do": "limit", "name": "fma" | "l2" | ...}      ->  {"rate": flop/s or bytes/s}
    {"do": "import_time"}                            ->  {"seconds": of importing the library}

It is started by its file name, in the interpreter that has the library: worker.py NAME THREADS
SAMPLE_SECONDS DEVICE.
"""

import gc
import json
import math
import os
import subprocess
import sys
import time

WARM = 0.05  # seconds: a call that takes longer is timed once


class Worker:
    def __init__(self, adapter, sample_seconds):
        self._adapter, self._sample_seconds = adapter, sample_seconds
        self._call, self._units, self._calls = None, 1, 1
        self._finish = getattr(adapter, "finish", lambda: None)  # waits for a GPU

    def prepare(self, method, args):
        self._call = None
        gc.enable()
        gc.collect()
        build = getattr(self._adapter, method, None)
        if build is None:
            return {"absent": "not offered"}
        self._call, self._units = build(*args)
        self._call()  # compiles
        seconds = self._time(1)
        if seconds < WARM:  # the first call is not like the others
            calls = self._calls_for(seconds)
            seconds = self._time(calls) / calls
        self._calls = self._calls_for(seconds)
        return {"seconds": seconds / self._units}

    def _calls_for(self, seconds):
        return max(1, min(100_000, math.ceil(self._sample_seconds / max(seconds, 1e-9))))

    def sample(self):
        gc.disable()
        if self._calls > 1:  # caches, threads and clock were others' before
            self._time(max(1, self._calls // 5))
        return {"seconds": self._time(self._calls) / self._calls / self._units}

    def import_time(self):
        """Seconds to import the library in a fresh interpreter, where it was imported before."""
        code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
        command = [sys.executable, "-c", code.format(self._adapter.modules[0])]
        # Installed packages have their bytecode; sources in a folder get it at the first import.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        for _ in range(2):
            seconds = float(subprocess.check_output(command, env=environment).split()[-1])
        return {"seconds": seconds}

    def limit(self, name):
        return {"rate": self._adapter.limit(name)}

    def _time(self, calls):
        call = self._call
        start = time.perf_counter()
        for _ in range(calls):
            call()
        self._finish()
        return time.perf_counter() - start


def main(name, threads, sample_seconds, device):
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    def answer(**content):
        print(json.dumps(content), file=answers)

    if device == "cpu":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    from adapters import on

    del sys.path[0]  # this folder: its names are no modules of others
    try:
        adapter = on(device)[name][0](int(threads))
    except ImportError as error:
        return answer(absent=str(error))
    worker = Worker(adapter, float(sample_seconds))
    answer(version=adapter.version)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            result = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # one failing case must not end the others
            result = {"absent": f"{type(error).__name__}: {error}"}
        answer(**result)


if __name__ == "__main__":
    main(*sys.argv[1:])
