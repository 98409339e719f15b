"""`dlcore bench`: kernels and training steps, beside the libraries that are installed."""

import os
import sys

from dlcore.cli import whole, writable


def add_arguments(parser):
    add = parser.add_argument
    add("--device", choices=["cpu", "gpu"], default="cpu", help="where to run (default: cpu)")
    add("--threads", type=_numbers, default=(), metavar="LIST", help="default: all cores, then 1")
    add("--only", default="", metavar="TEXT", help="cases whose name contains one of these, as a,b")
    add("--peers", default="all", metavar="LIST", help="all, none, or names, as numpy,torch,jax")
    add("--python", default="", metavar="PATHS", help="further interpreters to find peers in")
    add("--rounds", type=whole(1, "a number"), default=11, metavar="N", help="default: 11")
    add("--sample-ms", type=whole(1, "a time"), default=20, help="length of a sample (default: 20)")
    add("--json", metavar="FILE", help="file for all figures (on a GPU by default bench-gpu.json)")
    add("--table", metavar="FILE", help="file for the table in Markdown (default: printed)")
    add("--plot", metavar="FILE", help="file for a picture (on a GPU by default bench-gpu.svg)")
    add("--list", action="store_true", help="only list the cases")


def run(options):
    from dlcore.bench import report, runner

    wanted = options.only.split(",")
    cases = [case for case in _cases(options.device) if any(text in case.name for text in wanted)]
    if not cases:
        raise ValueError(f"bench: expected --only with text of a case's name, got {options.only!r}")
    if options.list:
        print("\n".join(case.name for case in cases))
        return
    on_gpu = options.device == "gpu"
    cores = 1 if on_gpu else len(os.sched_getaffinity(0))
    about = {}
    if on_gpu:
        about = _gpu()
        options.json, options.plot = (
            options.json or "bench-gpu.json",
            options.plot or "bench-gpu.svg",
        )

    for path in filter(None, (options.json, options.plot, options.table)):
        writable("bench", path)

    def save(results):
        results["machine"] |= about
        if options.json:
            report.save_json(results, options.json)
        if options.plot:
            report.save_picture(results, options.plot)
        if options.table:
            with open(options.table, "w", encoding="utf-8") as file:
                file.write(report.markdown(results))

    results = runner.run(
        cases,
        _names(options.peers, options.device),
        [sys.executable, *filter(None, options.python.split(os.pathsep))],
        options.threads or sorted({cores, 1}, reverse=True),
        options.rounds,
        options.sample_ms / 1000,
        lambda line: print(line, file=sys.stderr, flush=True),
        save,
        options.device,
    )
    if not options.table:
        print(report.markdown(results), end="")


def _numbers(text):
    parse = whole(1, "a number of threads")
    return tuple(parse(part) for part in text.split(","))


def _cases(device):
    from dlcore.bench import cases, gpu_cases

    return gpu_cases.GPU_CASES if device == "gpu" else cases.CASES


def _gpu():
    """What the GPU is; raises where there is none."""
    import dlcore
    from dlcore import backends

    dlcore.set_device("gpu")
    return backends.describe()


def _names(peers, device):
    from dlcore import isas
    from dlcore.bench import adapters
    from dlcore.lookup import lookup

    known = [name for name in adapters.on(device) if name != "dlcore"]
    if peers == "all":
        if "avx512" not in isas():  # else that variant of NumPy dies of an illegal instruction
            known = [name for name in known if name != "numpy+skylakex"]
        return ["dlcore", *known]
    chosen = [] if peers == "none" else peers.split(",")
    return ["dlcore", *(lookup("peer", {n: n for n in known}, name) for name in chosen)]
