"""The results of a check as lines, a JSON file and a picture."""

import json
from dataclasses import asdict

OK, OFF = "#2ca02c", "#d62728"


def line(result):
    """An op in one line."""
    text = f"{result.op:32} {result.dtype}  {result.rows:3} rows  value {result.value:8.3g}"
    text += " " * 18 if result.gradient is None else f"  gradient {result.gradient:7.3g}"
    text += "  ok" if not result.failures else f"  {len(result.failures)} OFF"
    return text + ("  (formula)" if result.formulas else "")


def summary(machine, results):
    """The last lines: how many rows, on what, and all that is off."""
    rows, off = sum(r.rows for r in results), [f for r in results for f in r.failures]
    lines = [f"{rows} rows on {machine['device']}: " + (f"{len(off)} off" if off else "all right")]
    return "\n".join(lines + [f"  {text}" for text in off])


def save_json(machine, results, path):
    """Everything, as {"machine": ..., "results": [...]}."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "results": [asdict(r) for r in results]}, file, indent=1)


def save_picture(machine, results, path):
    """Bars: the worst error of each op's values as a share of what is allowed."""
    from dlcore.utils.svg import Drawing

    left, width, bar, top = 290, 420, 14, 50
    drawing = Drawing(left + width + 130, top + bar * len(results) + 20)
    drawing.text(10, 24, f"Worst error, in units of what is allowed: {machine['device']}", size=15)
    for i, r in enumerate(results):
        y, share = top + bar * i, r.value / r.allowed if r.allowed else 0.0
        length = width * min(share, 1.25) / 1.25
        drawing.text(left - 8, y + 10, f"{r.op} {r.dtype}", "end", 10)
        drawing.rect(left, y + 2, length, bar - 4, fill=OFF if r.failures else OK)
        drawing.text(left + length + 6, y + 10, f"{r.value:.2g} of {r.allowed:g} ulps", size=10)
    x = left + width / 1.25
    drawing.lines([(x, top - 6), (x, top + bar * len(results))], "#444444")
    drawing.save(path)
