"""The results as a Markdown table, a JSON file and a picture."""

import json

MARKS = {True: "yes", False: "no", None: "?"}


def duration(seconds):
    """`seconds` with a unit that suits."""
    for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def markdown(results):
    """The whole report."""
    about = results["machine"]
    lines = [
        "Median (min..max) of one call or training step. Limit: the multiply-add peak for GEMM and "
        "training, read bandwidth for the others, measured in the same rounds; convolutions count "
        "as direct ones, so minimal filtering may pass it. Ratio: time of the "
        "best peer / time of dlcore. State A: both cores share an L3 (a cache line takes less than "
        "200 ns between them), B: they do not, S: both threads run on one core.",
        "",
        *[f"- {name}: {value}" for name, value in about.items()],
        *[_limits(threads, limits) for threads, limits in results["limits"].items()],
        "- " + ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        *[f"- {name} is absent" for name in results["absent"]],
        "",
        "| case | threads | state | dlcore | limit | best peer | ratio | target | met "
        "| others, times dlcore |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *[_line(row) for row in results["rows"]],
    ]
    return "\n".join(lines) + "\n"


def _limits(threads, limits):
    units = {name: "GFLOP/s" if name == "fma" else "GB/s" for name in limits}
    rates = ", ".join(f"{name} {rate / 1e9:.0f} {units[name]}" for name, rate in limits.items())
    return f"- limits, {threads} thread(s): {rates or 'not measured'}"


def _line(row):
    times = row["times"]
    own = times["dlcore"]
    spread = f"{duration(own['median'])} ({duration(own['min'])}..{duration(own['max'])})"
    share = "" if row["share"] is None else f"{100 * row['share']:.0f} % {row['limit']}"
    best = row["best_peer"]
    others = sorted(
        (t["median"] / own["median"], name)
        for name, t in times.items()
        if name not in ("dlcore", best)
    )
    cells = [
        row["case"],
        str(row["threads"]),
        f"{row['state']} {row['latency_ns']:.0f} ns" if row["state"] != "-" else "-",
        spread,
        share,
        f"{best} {duration(times[best]['median'])}" if best else "",
        f"{row['ratio']:.2f}" if best else "",
        ", ".join(t["target"] for t in row["targets"]),
        ", ".join(MARKS[t["met"]] for t in row["targets"]),
        ", ".join(f"{name} {ratio:.2g}" for ratio, name in others),
    ]
    return "| " + " | ".join(cells) + " |"


def save_json(results, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


def save_picture(results, path):
    """Bars: how many times faster than the best peer dlcore is, at the most threads measured."""
    from dlcore.utils.svg import Drawing

    threads = max((row["threads"] for row in results["rows"]), default=1)
    rows = [r for r in results["rows"] if r["ratio"] and r["threads"] in (threads, 1)]
    rows = [r for r in rows if r["threads"] == threads or r["case"] == "import"]
    left, width, bar, top = 330, 420, 18, 50
    longest = max([1.2, *(min(r["ratio"], 10) for r in rows)])
    drawing = Drawing(left + width + 160, top + bar * len(rows) + 20)
    drawing.text(10, 24, f"Speed relative to the best peer, {threads} thread(s)", size=15)
    for i, row in enumerate(rows):
        y, length = top + bar * i, width * min(row["ratio"], 10) / longest
        color = "#2ca02c" if row["ratio"] >= 1 else "#d62728"
        drawing.text(left - 8, y + 12, f"{row['case']} [{row['state']}]", "end", 11)
        drawing.rect(left, y + 2, length, bar - 5, fill=color)
        label = f"{row['ratio']:.2f} x {row['best_peer']}"
        drawing.text(left + length + 6, y + 12, label, size=11)
    x = left + width / longest
    drawing.lines([(x, top - 6), (x, top + bar * len(rows))], "#444444")
    drawing.save(path)
