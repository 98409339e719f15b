"""Pictures and summaries of models."""

import itertools
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from dlcore import layers, models, ops, utils
from dlcore.utils.layered import Box, place

NS = "{http://www.w3.org/2000/svg}"


def residual(name="net"):
    x = layers.Input((4,), name="x")
    twice = layers.Dense(4, "relu", name="twice")
    h = layers.add([x, twice(twice(x))], name="plus")
    return models.Model(x, [layers.Dense(2, name="out")(h), ops.tanh(h)], name=name)


def drawn(path):
    """(texts, number of boxes, number of arrows) of a picture."""
    root = ElementTree.parse(path).getroot()
    texts = [t.text for t in root.iter(NS + "text")]
    return texts, len(list(root.iter(NS + "rect"))) - 1, len(list(root.iter(NS + "polygon")))


def test_plot(tmp_path):
    path = tmp_path / "net.svg"
    drawing = utils.plot_model(residual(), path)
    assert drawn(path) == (
        ["InputLayer", "Dense", "Dense", "Add", "Dense", "tanh"], 6, 6
    )  # fmt: skip
    assert "<svg" in drawing._repr_svg_()
    utils.plot_model(
        residual(), path, show_shapes=True, show_dtype=True, show_layer_names=True, rankdir="LR",
        show_layer_activations=True, show_trainable=True,
    )  # fmt: skip
    texts = drawn(path)[0]
    for part in (
        "twice [1] (Dense)", "in: (None, 4), (None, 4)", "out: (None, 2)", "type: float32",
        "activation: relu", "trainable",
    ):  # fmt: skip
        assert part in texts


def test_plot_of_nested_models(tmp_path):
    inner = models.Sequential([layers.Input((4,)), layers.Dense(3, name="a"), layers.Dense(4)])
    x = layers.Input((4,))
    model = models.Model(x, inner(inner(x)))
    path = tmp_path / "m.svg"
    utils.plot_model(model, path)
    assert drawn(path) == (["InputLayer", "Sequential", "Sequential"], 3, 2)
    utils.plot_model(model, path, expand_nested=True, show_layer_names=True)
    texts, boxes, arrows = drawn(path)
    assert (boxes, arrows) == (5, 4) and f"{inner.name} [1]/a (Dense)" in texts


def test_plot_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="expected a built model"):
        utils.plot_model(models.Sequential([layers.Dense(1)]))
    with pytest.raises(ValueError, match="expected rankdir"):
        utils.plot_model(residual(), tmp_path / "m.svg", rankdir="BT")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"expected a name that ends in .svg, got .*m.png"):
        utils.plot_model(residual(), tmp_path / "m.png")


def test_plot_in_pixels(tmp_path):
    pytest.importorskip("matplotlib")
    utils.plot_model(residual(), tmp_path / "m.png", dpi=50)
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("seed", range(20))
def test_boxes_do_not_overlap(seed):
    r = np.random.default_rng(seed)
    boxes = []
    for i in range(r.integers(1, 30)):
        sources = [boxes[j] for j in r.integers(0, i, r.integers(0, 4))] if i else []
        boxes.append(Box(r.uniform(10, 100), r.uniform(10, 50), sources))
    width, height, edges = place(boxes)
    for i, a in enumerate(boxes):
        assert a.width / 2 <= a.x <= width - a.width / 2
        assert a.height / 2 <= a.y <= height - a.height / 2
        for s in a.sources:
            assert s.y + s.height / 2 < a.y - a.height / 2
        for b in boxes[:i]:
            apart = abs(a.x - b.x) >= (a.width + b.width) / 2
            assert apart or abs(a.y - b.y) >= (a.height + b.height) / 2
    assert len(edges) == sum(len(b.sources) for b in boxes)
    for edge in edges:
        assert all(y0 < y1 for (_, y0), (_, y1) in itertools.pairwise(edge))


def summary_of(model, **kwargs):
    lines = []
    model.summary(print_fn=lines.append, **kwargs)
    return lines[0].splitlines()


def row(lines, start):
    return next(line.split() for line in lines if line.strip().startswith(start))


def test_summary_shows_connections():
    model = residual()
    model.get_layer("twice").trainable = False
    model.compile("adam", "mse")
    lines = summary_of(model, show_trainable=True)
    assert "Connected to" in lines[2]
    assert row(lines, "x ") == ["x", "(InputLayer)", "(None,", "4)", "0", "yes"]
    assert row(lines, "twice ") == ["twice", "(Dense)", "(None,", "4)", "20", "x", "no"]
    places = [i for i, line in enumerate(lines) if line.startswith("plus")]
    assert row(lines, "plus")[-2:] == ["x", "yes"] and lines[places[0] + 1].split() == [
        "twice[1][0]"
    ]
    assert "Parameters: 30 (120 B); trainable 10, frozen 20" in lines
    assert sum("FLOPs" in line for line in lines) == 2


def test_summary_of_nested_models():
    inner = models.Sequential([layers.Dense(3, name="first"), layers.Dense(4)], name="inner")
    x = layers.Input((4,))
    model = models.Model(x, inner(x))
    assert "Connected to" not in summary_of(model)[2]
    assert not any("first" in line for line in summary_of(model))
    lines = summary_of(model, expand_nested=True)
    assert row(lines, "first") == ["first", "(Dense)", "(None,", "3)", "15"]
    net = models.Model(x, inner(x) + x)
    assert "Connected to" in summary_of(net, expand_nested=True)[2]
