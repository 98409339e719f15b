"""The table that `Model.summary` prints."""

import numpy as np

from dlcore.layers import spec
from dlcore.program.dtypes import HALVES, array_type


def text(model, line_length, expand_nested, show_trainable, batch):
    """All lines of the summary as one string."""
    listed = list(_listed(model, expand_nested))
    connected = any(not is_chain(holder) for holder, _, _ in listed)
    head = ["Layer (type)", "Output shape", "Param #"]
    rows = [head + ["Connected to"] * connected + ["Trainable"] * show_trainable]
    shapes = output_shapes(listed)
    for holder, layer, depth in listed:
        row = [
            f"{'  ' * depth}{layer.name} ({type(layer).__name__})",
            str(shapes.get(layer, "?")),
            f"{layer.count_params():,}" if layer.built or layer.weights else "? (unbuilt)",
        ]
        sources = source_names(holder, layer) if connected else []
        row += [", ".join(sources[:1])] * connected
        rows.append(row + [("yes" if layer.trainable else "no")] * show_trainable)
        rows += [["", "", "", name] + [""] * show_trainable for name in sources[1:]]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    if line_length:
        widths[0] = max(widths[0], line_length - sum(widths[1:]) - 2 * (len(widths) - 1))
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head = f"Model: {model.name}"
    return "\n".join([head, rule, lines[0], rule, *lines[1:], rule, *_totals(model, batch)])


def _listed(model, expand_nested, depth=0):
    """(model that holds the layer, layer, depth)."""
    for layer in model.operations:
        yield model, layer, depth
        if expand_nested and hasattr(layer, "operations"):
            yield from _listed(layer, True, depth + 1)


def is_chain(model):
    """Whether every layer takes what the one before it makes, so that no names are needed."""
    if getattr(model, "_graph", None) is None:
        return True
    connections = model._graph.connections
    pairs = zip(connections[1:], connections, strict=False)
    return all(c.inputs == before.outputs for c, before in pairs)


def source_names(model, layer):
    """Who makes the inputs of `layer` in `model`; with the number of the call and of the result
    where there are several.
    """
    if getattr(model, "_graph", None) is None:
        return []
    connections = model._graph.connections
    calls = {}
    for c in connections:
        calls.setdefault(c.layer, []).append(c)

    def name(symbol):
        source = symbol.connection
        several = len(calls[source.layer]) > 1 or len(source.outputs) > 1
        place = f"[{calls[source.layer].index(source)}][{symbol.index}]" if several else ""
        return source.layer.name + place

    return [name(x) for c in calls.get(layer, ()) for x in c.inputs]


def output_shapes(listed):
    """{layer: output shape}: of its first call in the graph it is in, or, in a model that is not a
    graph, as one trace of that model notes it.
    """
    shapes = {}
    for holder in dict.fromkeys(holder for holder, _, _ in listed):
        if getattr(holder, "_graph", None) is not None:
            for c in holder._graph.connections:
                found = [x.shape for x in c.outputs]
                shapes.setdefault(c.layer, found[0] if len(found) == 1 else found)
        elif holder.built and holder._build_specs is not None:
            _trace_shapes(holder, shapes)
    return shapes


def _trace_shapes(model, shapes):
    inner = {x: x.call for x in model._layers_within()}
    try:
        for layer, call in inner.items():
            layer.call = _noting(layer, call, shapes)
        spec.output_spec(model, model._build_specs)
    finally:
        for layer in inner:
            del layer.__dict__["call"]


def _noting(layer, call, shapes):
    def noting(*args, **kwargs):
        outputs = call(*args, **kwargs)
        found = [spec.batch_shapes(y) for y in spec.leaves(outputs)]
        shapes.setdefault(layer, found[0] if len(found) == 1 else found)
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
    lines += _policies(model)
    inputs = filter(spec.is_spec, spec.leaves(model._build_specs or ()))
    sizes = [n for x in inputs for n in x.shape[1:]]
    if getattr(model, "_graph", None) is not None:
        batch = model._graph.input_list[0].shape[0] or batch
    known = model.built and model._build_specs is not None  # not where its own step calls layers
    if known and None not in sizes and not model._replaces("predict_step"):
        lines += _costs(model, batch, size)
    return lines


def _policies(model):
    """What layers compute in, where that is not what their weights are in."""
    halves = {layer.compute_dtype for layer in model._layers_within()} & set(HALVES)
    return [f"Computation in {', '.join(sorted(halves))}; weights in float32"] if halves else []


def _costs(model, batch, weight_bytes):
    """FLOPs and planned memory of a prediction and, when compiled, of a training step."""
    inputs = spec.map_leaves(lambda x: np.zeros((batch, *x.shape[1:]), x.dtype), model._build_specs)
    outputs = spec.leaves(model._output_specs(model._data("summary", "predict", inputs)))
    targets = _targets(model, outputs, batch)
    lines = []
    for kind, words in (("predict", "Prediction"), ("train", "Training step")):
        train = kind == "train"
        if train and targets is None:
            continue
        data = model._data("summary", kind, inputs, targets if train else None)
        program = model._program(kind, data, batch, train).compile(batch)
        slots = sum(v.value.nbytes for v in model.optimizer.variables) if train else 0
        peak = _bytes(weight_bytes + slots + program.memory_bytes)
        lines.append(
            f"{words}, batch {batch}: {int(program.flops):,} FLOPs, planned peak memory {peak}"
        )
    return lines


def _targets(model, outputs, batch):
    """Zeros like a batch of the targets, or None where they are not known before `fit`: losses and
    steps of the user's take what they like.
    """
    compiled = model._compiled
    heads = compiled.heads if compiled is not None else []
    if not any(h.loss for h in heads) or model._replaces("train_step", "compute_loss"):
        return None
    if any(h.loss and h.wants_integers() and not h.loss.integer_targets for h in heads):
        return None
    targets = []
    for head, y in zip(heads, outputs, strict=True):
        labels = head.loss is not None and head.loss.integer_targets
        shape = y.shape[1:-1] if labels else y.shape[1:]
        targets.append(np.zeros((batch, *shape), "int32" if labels else array_type(y.dtype)))
    return targets if len(targets) > 1 else targets[0]


def _bytes(n):
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:.4g} GiB"
