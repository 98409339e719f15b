"""The picture of a training: each metric over the epochs, with the validation curve beside it."""

import math

COLORS = ("#1f77b4", "#d62728")  # training, validation
PANEL_WIDTH, PANEL_HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 36, 44  # margins of a panel in pixels


def save_curves(history, path):
    """Draw learning curves to a file: with matplotlib if it is installed, else as SVG.

    Parameters
    ----------
    history : dict of str to list of float
        One value per epoch; `val_NAME` is drawn in the panel of `NAME`.
    path : path-like
        Name of the picture; its suffix chooses the format (`.svg` alone without matplotlib).

    Raises
    ------
    ValueError
        The history is empty, or the format needs matplotlib, which is not installed.
    """
    import os

    path = os.fspath(path)
    panels = _panels(history)
    if not panels:
        raise ValueError("save_curves: expected a history of one epoch or more, got an empty one")
    try:
        import matplotlib
    except ImportError:
        if not path.lower().endswith(".svg"):
            raise ValueError(
                f"save_curves: expected a name that ends in .svg, got {path!r}; "
                "other formats need matplotlib (pip install matplotlib)"
            ) from None
        _draw_svg(panels, path)
    else:
        _draw_matplotlib(matplotlib, panels, path)


def _panels(history):
    """[(name, {"training": [...], "validation": [...]}), ...] of the metrics that are numbers."""
    import numpy as np

    panels = []
    for name, values in history.items():
        if np.ndim(values) != 1 or (name.startswith("val_") and name[4:] in history):
            continue
        curves = {"training": values, "validation": history.get("val_" + name, [])}
        curves = {kind: [float(v) for v in c] for kind, c in curves.items() if len(c)}
        if curves:
            panels.append((name, curves))
    return panels


def _draw_matplotlib(matplotlib, panels, path):
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained")
    for i, (name, curves) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1, title=name, xlabel="epoch")
        for (kind, values), color in zip(curves.items(), COLORS, strict=False):
            axes.plot(range(1, len(values) + 1), values, color=color, label=kind)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def _draw_svg(panels, path):
    from dlcore.utils.svg import Drawing

    drawing = Drawing(PANEL_WIDTH * len(panels), PANEL_HEIGHT)
    for i, (name, curves) in enumerate(panels):
        _draw_panel(drawing, i * PANEL_WIDTH, name, curves)
    drawing.save(path)


def _draw_panel(drawing, left, name, curves):
    from dlcore.utils.svg import ticks

    finite = [v for values in curves.values() for v in values if math.isfinite(v)] or [0.0]
    epochs = max(len(values) for values in curves.values())
    marks = ticks(min(finite), max(finite))
    low, high = marks[0], marks[-1]
    x0, x1 = left + LEFT, left + PANEL_WIDTH - RIGHT
    y0, y1 = PANEL_HEIGHT - BOTTOM, TOP

    def place(epoch, value):
        x = x0 + (x1 - x0) * (epoch - 1) / max(epochs - 1, 1)
        return x, y0 + (y1 - y0) * (value - low) / (high - low)

    drawing.text((x0 + x1) / 2, y1 - 14, name, "middle", 14)
    for mark in marks:
        y = place(1, mark)[1]
        drawing.lines([(x0, y), (x1, y)], "#dddddd")
        drawing.text(x0 - 6, y + 4, f"{mark:.6g}", "end", 11)
    for epoch in sorted({1, (epochs + 1) // 2, epochs}):
        drawing.text(place(epoch, low)[0], y0 + 16, epoch, "middle", 11)
    drawing.text((x0 + x1) / 2, y0 + 34, "epoch", "middle", 12)
    drawing.rect(x0, y1, x1 - x0, y0 - y1, stroke="#888888")
    for i, (kind, values) in enumerate(curves.items()):
        points = [place(e, v) for e, v in enumerate(values, 1) if math.isfinite(v)]
        if len(points) == 1:  # a line needs two ends to be seen
            points.append((points[0][0] + 2, points[0][1]))
        drawing.lines(points, COLORS[i], 2)
        drawing.text(x1 - 72 * (len(curves) - 1 - i), y0 + 34, kind, "end", 12, COLORS[i])
