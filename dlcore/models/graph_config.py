"""A graph of layers as JSON, and back: the layers, then their calls in order.

In the arguments of a call, {"symbol": [layer, n, i]} is result i of the layer's call number n, and
{"tuple": ...}, {"slice": ...}, ... are what JSON does not have.
"""

import numpy as np

from dlcore import lookup
from dlcore.layers import deserialize, serialize, spec
from dlcore.layers.inputs import InputLayer
from dlcore.layers.symbolic import KerasTensor
from dlcore.program.dtypes import standardize


def graph_config(graph):
    """A `LayerGraph` as a dictionary that JSON can hold."""
    numbers, places = {}, {}
    for connection in graph.connections:
        name = connection.layer.name
        n = numbers[name] = numbers.get(name, -1) + 1
        places.update({x: [name, n, i] for i, x in enumerate(connection.outputs)})
    calls = [
        {
            "layer": c.layer.name,
            "args": [_plain(c.layer.name, x, places) for x in c.args],
            "kwargs": {k: _plain(c.layer.name, x, places) for k, x in c.kwargs.items()},
        }
        for c in graph.connections
        if c.inputs
    ]
    return {
        "layers": [serialize(layer) for layer in graph.layers],
        "calls": calls,
        "inputs": _plain(graph.who, graph.inputs, places),
        "outputs": _plain(graph.who, graph.outputs, places),
        "extra_outputs": _plain(graph.who, graph.extras, places),
    }


def _plain(who, value, places):
    """An argument of a call as JSON can hold it."""
    if isinstance(value, KerasTensor):
        return {"symbol": places[value]}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": str(value)}
    if isinstance(value, list):
        return [_plain(who, x, places) for x in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(who, x, places) for x in value]}
    if isinstance(value, dict):
        return {"dict": [[k, _plain(who, x, places)] for k, x in value.items()]}
    if isinstance(value, slice):
        return {"slice": [_plain(who, x, places) for x in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, (np.dtype, type)) and hasattr(np.dtype(value), "name"):
        return np.dtype(value).name
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": value.tolist(), "dtype": value.dtype.name}
    if lookup.is_live():
        return value
    raise ValueError(
        f"{who}: expected arguments that can be saved (numbers, arrays, ...), got {value!r}"
    )


def graph_from_config(config):
    """(inputs, outputs, extras) of the graph that `graph_config` described, with new layers.

    Raises
    ------
    ValueError
        If it is damaged, or a layer does not fit.
    """
    try:
        return _graph_from_config(config)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{config.get('name', 'model')}: expected a configuration as get_config returns it,"
            f" got {type(error).__name__}: {error}"
        ) from error


def _graph_from_config(config):
    layers, symbols = {}, {}
    for described in config["layers"]:
        layer = deserialize(described)
        layers[layer.name] = layer
        symbols[layer.name] = [[layer.output]] if isinstance(layer, InputLayer) else []
    for call in config["calls"]:
        name = call["layer"]
        if name not in layers:
            raise ValueError(f"{name}: expected the layers that are called, got none of that name")
        args = [_revived(name, x, symbols) for x in call["args"]]
        kwargs = {k: _revived(name, x, symbols) for k, x in call["kwargs"].items()}
        outputs = spec.leaves(layers[name](*args, **kwargs))
        symbols[name].append(outputs)
    ends = config["inputs"], config["outputs"], config.get("extra_outputs", [])
    return tuple(_revived("model", x, symbols) for x in ends)


def _revived(who, value, symbols):
    if isinstance(value, list):
        return [_revived(who, x, symbols) for x in value]
    if not isinstance(value, dict):
        return value
    (kind, inner), *rest = value.items()
    if kind == "symbol":
        return _symbol(who, *inner, symbols)
    if kind == "tuple":
        return tuple(_revived(who, x, symbols) for x in inner)
    if kind == "dict":
        return {k: _revived(who, x, symbols) for k, x in inner}
    if kind == "slice":
        return slice(*(_revived(who, x, symbols) for x in inner))
    if kind == "array":
        return np.asarray(inner, standardize(dict(rest)["dtype"], who))
    if kind in ("float", "ellipsis"):
        return float(inner) if kind == "float" else Ellipsis
    raise ValueError(f"{who}: expected a known kind of argument, got {kind!r}")


def _symbol(who, layer, n, i, symbols):
    calls = symbols.get(layer, ())
    if not 0 <= n < len(calls) or not 0 <= i < len(calls[n]):
        raise ValueError(
            f"{who}: expected inputs that layers before it make, got {layer} which is not called"
            " yet; graphs cannot have cycles"
        )
    return calls[n][i]
