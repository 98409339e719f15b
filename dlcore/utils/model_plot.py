"""The picture of a model: a box per call of a layer, an arrow per tensor."""

import math
import os

from dlcore import lookup
from dlcore.utils.layered import Box, place
from dlcore.utils.svg import Drawing

_SIZE, _LINE, _CHARACTER = 12, 16, 7.0  # pixels: letters, lines of text, the width of a letter
_INPUT, _LAYER, _MODEL = "#dbe9f6", "#f4f4f4", "#e4f1df"


@lookup.checked
def plot_model(
    model,
    to_file="model.png",
    show_shapes=False,
    show_dtype=False,
    show_layer_names=False,
    rankdir="TB",
    expand_nested=False,
    dpi=200,
    show_layer_activations=False,
    show_trainable=False,
    **_,
):
    """Draw the graph of a model to a file.

    Parameters
    ----------
    model : Model
    to_file : path-like or None, default "model.png"
        The suffix chooses the format: `.svg` always, others with matplotlib.
    show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable : bool
        What boxes say besides the kind of layer.
    rankdir : "TB" or "LR"
        From top to bottom, or from left to right.
    expand_nested : bool
        Whether the layers of inner models have boxes of their own.
    dpi : int
        Resolution of formats made of pixels.

    Returns
    -------
    Drawing
        Shown as a picture by notebooks.

    Raises
    ------
    ValueError
        If the model is not built, or the format needs matplotlib, which is not installed.

    Examples
    --------
    >>> import dlcore as keras
    >>> x = keras.Input((4,))
    >>> model = keras.Model(x, keras.layers.add([x, keras.layers.Dense(4)(x)]))
    >>> drawing = keras.utils.plot_model(model, "model.svg", show_shapes=True)
    """
    if not model.built:
        raise ValueError(
            f"plot_model: expected a built model, got {model.name}; call build(input_shape) or fit"
        )
    if rankdir not in ("TB", "LR"):
        raise ValueError(f"plot_model: expected rankdir 'TB' or 'LR', got {rankdir!r}")

    def lines(connection, name):
        layer = connection.layer
        kind = getattr(getattr(layer, "function", None), "__name__", type(layer).__name__)
        yield f"{name} ({kind})" if show_layer_names else kind
        if show_layer_activations and hasattr(layer, "activation"):
            yield f"activation: {getattr(layer.activation, '__name__', layer.activation)}"
        if show_trainable and layer.weights:
            yield "trainable" if layer.trainable else "frozen"
        if show_shapes:
            if connection.inputs:
                yield f"in: {', '.join(str(x.shape) for x in connection.inputs)}"
            yield f"out: {', '.join(str(x.shape) for x in connection.outputs)}"
        if show_dtype:
            yield f"type: {', '.join(x.dtype for x in connection.outputs)}"

    boxes = list(_boxes(model, lines, expand_nested))
    return _saved(boxes, rankdir == "LR", to_file, dpi)


def _boxes(model, lines, expand_nested):
    graph = getattr(model, "_graph", None)
    if graph is None:
        yield _box([f"{model.name} ({type(model).__name__})"], [], _MODEL)
        return
    yield from _graph_boxes(graph, {}, "", lines, expand_nested)


def _graph_boxes(graph, made, prefix, lines, expand_nested):
    """Boxes of the calls; `made` gets, for each symbol, the box it comes from."""
    calls = {}
    for c in graph.connections:
        if all(x in made for x in c.outputs):  # inputs of an inner model
            continue
        inner = getattr(c.layer, "_graph", None)
        n = calls[c.layer] = calls.get(c.layer, -1) + 1
        name = prefix + c.layer.name + (f" [{n}]" if n else "")
        if inner is not None and expand_nested:
            symbols = inner.input_form.flatten(c.args[0])
            inside = {i: made[x] for i, x in zip(inner.input_list, symbols, strict=True)}
            yield from _graph_boxes(inner, inside, f"{name}/", lines, True)
            made.update({x: inside[i] for x, i in zip(c.outputs, inner.output_list, strict=True)})
            continue
        color = _LAYER if inner is None else _MODEL
        box = _box(list(lines(c, name)), [made[x] for x in c.inputs], color if c.inputs else _INPUT)
        made.update(dict.fromkeys(c.outputs, box))
        yield box


def _box(texts, sources, color):
    width = max(len(t) for t in texts) * _CHARACTER + 20
    return Box(width, len(texts) * _LINE + 12, sources, (texts, color))


def _saved(boxes, sideways, to_file, dpi):
    for b in boxes:
        if sideways:
            b.width, b.height = b.height, b.width
    width, height, edges = place(boxes)
    if sideways:
        width, height = height, width
        edges = [[(y, x) for x, y in edge] for edge in edges]
        for b in boxes:
            b.x, b.y, b.width, b.height = b.y, b.x, b.height, b.width
    drawing = Drawing(width, height)
    _draw(drawing, boxes, edges)
    if to_file is not None:
        _write(drawing, os.fspath(to_file), boxes, edges, dpi)
    return drawing


def _draw(canvas, boxes, edges):
    for edge in edges:
        canvas.lines(edge, "#555555", 1.2)
        canvas.polygon(_arrow(*edge[-2:]), "#555555")
    for b in boxes:
        texts, color = b.content
        canvas.rect(b.x - b.width / 2, b.y - b.height / 2, b.width, b.height, color, "#555555")
        top = b.y - len(texts) * _LINE / 2
        for i, line in enumerate(texts):
            canvas.text(b.x, top + (i + 0.78) * _LINE, line, "middle", _SIZE)


def _arrow(start, end, size=7.0):
    """The head of an arrow from `start` that ends at `end`."""
    (x0, y0), (x1, y1) = start, end
    angle = math.atan2(y1 - y0, x1 - x0)
    sides = (angle + math.pi - 0.4, angle + math.pi + 0.4)
    return [end] + [(x1 + size * math.cos(a), y1 + size * math.sin(a)) for a in sides]


def _write(drawing, path, boxes, edges, dpi):
    if path.lower().endswith(".svg"):
        drawing.save(path)
        return
    try:
        canvas = _Figure(drawing.width, drawing.height)
    except ImportError:
        raise ValueError(
            f"plot_model: expected a name that ends in .svg, got {path!r};"
            " other formats need matplotlib (pip install matplotlib)"
        ) from None
    _draw(canvas, boxes, edges)
    canvas.figure.savefig(path, dpi=dpi)


class _Figure:
    """The methods of `Drawing` on a figure of matplotlib."""

    def __init__(self, width, height):
        from matplotlib.figure import Figure  # without pyplot: no window, no global state

        self.figure = Figure(figsize=(width / 96, height / 96))  # CSS pixels are 1/96 inch
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.axes.axis("off")

    def rect(self, x, y, width, height, fill="none", stroke="none"):
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=fill, edgecolor=stroke))

    def lines(self, points, color="black", width=1.0):
        self.axes.plot(*zip(*points, strict=True), color=color, linewidth=width * 0.75, zorder=0)

    def polygon(self, points, fill):
        self.axes.fill(*zip(*points, strict=True), facecolor=fill, zorder=0)

    def text(self, x, y, content, anchor="start", size=12):
        align = {"start": "left", "middle": "center", "end": "right"}[anchor]
        self.axes.text(x, y, content, ha=align, va="baseline", fontsize=size * 0.75)
