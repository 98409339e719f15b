"""The table that `Model.summary` prints."""

import numpy as np

from dlcore.layers import spec
from dlcore.models.arrays import Data


def text(model, line_length, expand_nested, show_trainable, batch):
    """All lines of the summary as one string."""
    rows = [["Layer (type)", "Output shape", "Param #"] + ["Trainable"] * show_trainable]
    shapes = output_shapes(model)
    for layer, depth in _listed(model, expand_nested):
        row = [
            f"{'  ' * depth}{layer.name} ({type(layer).__name__})",
            str(shapes.get(layer, "?")),
            f"{layer.count_params():,}" if layer.built or layer.weights else "? (unbuilt)",
        ]
        rows.append(row + [("yes" if layer.trainable else "no")] * show_trainable)
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    if line_length:
        widths[0] = max(widths[0], line_length - sum(widths[1:]) - 2 * (len(widths) - 1))
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head = f"Model: {model.name}"
    return "\n".join([head, rule, lines[0], rule, *lines[1:], rule, *_totals(model, batch)])


def _listed(model, expand_nested, depth=0):
    for layer in model.layers:
        yield layer, depth
        if expand_nested and hasattr(layer, "layers"):
            yield from _listed(layer, True, depth + 1)


def output_shapes(model):
    """{layer: output shape}, by one trace that notes what every layer returns."""
    if not model.built:
        return {}
    shapes = {}
    inner = {x: x.call for x in model._layers_within()}
    try:
        for layer, call in inner.items():
            layer.call = _noting(layer, call, shapes)
        spec.output_spec(model, model._build_specs)
    finally:
        for layer in inner:
            del layer.__dict__["call"]
    return shapes


def _noting(layer, call, shapes):
    def noting(*args, **kwargs):
        outputs = call(*args, **kwargs)
        found = [spec.batch_shapes(y) for y in spec.leaves(outputs)]
        shapes[layer] = found[0] if len(found) == 1 else found
        return outputs

    return noting


def _totals(model, batch):
    trainable = sum(v.size for v in model.trainable_weights)
    frozen = sum(v.size for v in model.non_trainable_weights)
    total = trainable + frozen
    size = sum(v.size * v.value.itemsize for v in model.weights)
    lines = [
        f"Parameters: {total:,} ({_bytes(size)}); trainable {trainable:,}, frozen {frozen:,}",
    ]
    if model.built:
        lines += _costs(model, batch, size)
    return lines


def _costs(model, batch, weight_bytes):
    """FLOPs and planned memory of a prediction and, when compiled, of a training step."""
    lines = []
    for kind, words in (("predict", "Prediction"), ("train", "Training step")):
        data = _example(model, batch, kind == "train")
        if data is None:
            continue
        model._prepare(data, train=kind == "train")
        program = model._program(kind, data, batch, kind == "train").compile(batch)
        slots = sum(v.value.nbytes for v in model.optimizer.variables) if kind == "train" else 0
        peak = _bytes(weight_bytes + slots + program.arena_bytes)
        lines.append(
            f"{words}, batch {batch}: {int(program.flops):,} FLOPs, planned peak memory {peak}"
        )
    return lines


def _example(model, batch, train):
    """Zeros like a batch of the data, or None where the targets are not known before `fit`."""
    inputs = spec.map_leaves(lambda x: np.zeros((batch, *x.shape[1:]), x.dtype), model._build_specs)
    if not train:
        return Data("summary", inputs, single=model._single_input())
    loss = model._compiled.loss if model.compiled else None
    if loss is None:
        return None
    output = spec.leaves(model._output_specs(_example(model, batch, False)))[0]
    shape = output.shape[1:-1] if loss.integer_targets else output.shape[1:]
    targets = np.zeros((batch, *shape), "int32" if loss.integer_targets else output.dtype)
    return Data("summary", inputs, targets, single=model._single_input())


def _bytes(n):
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:.4g} GiB"
