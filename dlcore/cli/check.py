"""`dlcore check`: every op on a device against its formula in float64. The exit code is 1 if one is
off."""

from dlcore.cli import writable


def add_arguments(parser):
    add = parser.add_argument
    add("--device", choices=["cpu", "gpu"], help="where to run (default: that of DLCORE_DEVICE)")
    add("--only", default="", metavar="TEXT", help="ops whose name contains one of these, as a,b")
    add("--dtype", choices=["float32", "float64"], help="by default both")
    add("--json", metavar="FILE", help="file for all figures (default: check-DEVICE.json)")
    add("--plot", metavar="FILE", help="file for a picture (default: check-DEVICE.svg)")


def run(options):
    import dlcore
    from dlcore import backends
    from dlcore.check import cases, report, runner, tensor_cores

    wanted = options.only.split(",")
    rows = [row for row in cases.ROWS if any(text in row.op for text in wanted)]
    if not rows:
        raise ValueError(f"check: expected --only with text of an op's name, got {options.only!r}")
    if options.device:
        dlcore.set_device(options.device)
    name = f"check-{dlcore.get_device()}"
    json = writable("check", options.json or f"{name}.json")
    plot = writable("check", options.plot or f"{name}.svg")
    machine = backends.describe()
    dtypes = [options.dtype] if options.dtype else ["float32", "float64"]

    def tell(result):
        print(report.line(result), flush=True)

    results = runner.run(rows, dtypes, tell)
    if any(text in "matmul" for text in wanted) and "float32" in dtypes:
        results += tensor_cores.run(tell)
    report.save_json(machine, results, json)
    report.save_picture(machine, results, plot)
    print(report.summary(machine, results))
    return int(any(result.failures for result in results))
