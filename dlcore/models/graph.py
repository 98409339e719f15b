"""The layers between some inputs and outputs, in an order in which they can be called.

The depth of a call is the longest way from it to an output. Calls are made from the deepest on,
those of one depth in the order in which the outputs are followed back; layers, weights and the
lines of a summary have the same order.
"""

import math

from dlcore import ops
from dlcore.layers import spec
from dlcore.layers.inputs import Input, InputLayer
from dlcore.layers.symbolic import KerasTensor
from dlcore.models.form import Form


class LayerGraph:
    """What `Model(inputs, outputs)` is made of.

    Parameters
    ----------
    who : str
        Name of the model, for messages.
    inputs, outputs : KerasTensor, or nested
    takers : list of str, optional
        What messages call the layers that get the inputs; by default by the inputs' names.
    extras : list of KerasTensor
        What is computed besides: losses and metrics.
    """

    def __init__(self, who, inputs, outputs, takers=None, extras=()):
        input_list, output_list = _symbols(who, "inputs", inputs), _symbols(who, "outputs", outputs)
        _check_different(who, "inputs", [x.name for x in input_list])
        if not all(_is_input(x) for x in input_list):
            inputs, outputs = _with_own_inputs(inputs, outputs)
            input_list, output_list = spec.leaves(inputs), spec.leaves(outputs)
        self.who = who
        self.inputs, self.input_list = inputs, input_list
        self.outputs, self.output_list = outputs, output_list
        self.results = alone(outputs)  # nested as what `run` returns
        self.input_form = Form(who, "input", inputs, [x.name for x in input_list])
        self.output_form = Form(who, "output", outputs, [x.name for x in output_list])
        self.takers = takers or [x.name for x in input_list]
        self.extras = list(extras)
        self.connections = in_order(output_list + self.extras)
        unused = [x.connection for x in input_list if x.connection not in self.connections]
        self.connections = unused + self.connections
        self.layers = list(dict.fromkeys(c.layer for c in self.connections))
        _check_connected(who, self)
        _check_different(who, "layers", [x.name for x in self.layers])

    def run(self, inputs):
        """Call the layers on nested tensors; the nested results (one alone in a list comes out of
        it, as in Keras), and the list of extras.
        """
        values = dict(zip(self.input_list, self._matched(inputs), strict=True))
        for connection in self.connections:
            if connection.inputs:
                connection.play(values)
        return spec.map_leaves(values.get, self.results), [values[x] for x in self.extras]

    def with_extra(self, symbol):
        """The graph that computes `symbol` too."""
        extras = [*self.extras, symbol]
        return LayerGraph(self.who, self.inputs, self.outputs, self.takers, extras)

    def _matched(self, inputs):
        """The tensors in order, with the shapes and dtypes of the inputs."""
        tensors = self.input_form.flatten(inputs)
        shapes = self.row_shapes([tuple(x.shape) for x in tensors])
        tensors = [
            x if tuple(x.shape) == s else ops.reshape(x, s)
            for x, s in zip(tensors, shapes, strict=True)
        ]
        return [
            x if x.dtype == i.dtype else ops.cast(x, i.dtype)
            for x, i in zip(tensors, self.input_list, strict=True)
        ]

    def row_shapes(self, shapes):
        """The shapes that inputs of these shapes are given: a missing or extra last axis of size 1
        is added or dropped, as Keras does.

        Raises
        ------
        ValueError
            If one does not fit.
        """
        fitting = []
        for taker, shape, symbol in zip(self.takers, shapes, self.input_list, strict=True):
            expected, fit = symbol.shape, shape
            if len(shape) == len(expected) - 1 and expected[-1] == 1:
                fit = (*shape, 1)
            elif len(shape) == len(expected) + 1 and shape[-1] == 1:
                fit = shape[:-1]
            if not spec.fits(fit[1:], expected[1:]):
                raise ValueError(
                    f"{taker}: expected input {spec.shown(expected[1:])}, got {shape}"
                    f"{_advice(shape, expected[1:])}"
                )
            fitting.append(fit)
        return fitting

    def rebuilt(self, layers, inputs=None):
        """(inputs, outputs) of the same graph with other layers, from {layer: new layer}."""
        inputs = self.input_form.flatten(inputs) if inputs is not None else None
        new = inputs or [layers[x.connection.layer].output for x in self.input_list]
        values = dict(zip(self.input_list, new, strict=True))
        for connection in self.connections:
            if connection.inputs:
                connection.play(values, layers[connection.layer])
        return spec.map_leaves(values.get, self.inputs), spec.map_leaves(values.get, self.outputs)


def _advice(shape, row):
    """The end of a sentence about an input of `shape` where rows of another shape are expected."""
    if spec.fits(shape, row):
        return "; x[None] makes a batch of one sample, and Input takes the shape of one"
    if len(row) > 1 and len(shape) == len(row) + 1 and spec.fits((*shape[2:], shape[1]), row):
        return "; channels come last: np.moveaxis(x, 1, -1)"
    known = row and None not in (*row, *shape[1:])
    if known and math.prod(shape[1:]) == math.prod(row):
        return f"; x.reshape({', '.join(map(str, (-1, *row)))}) has such rows"
    return ""


def alone(tree):
    """The one entry of a list, or else the tree."""
    return tree[0] if isinstance(tree, (list, tuple)) and len(tree) == 1 else tree


def in_order(outputs, given=()):
    """The calls between the symbols `given` and `outputs`, deepest first."""
    found, done = {}, []
    stack = [(x.connection, False) for x in reversed(outputs) if x not in given]
    while stack:
        connection, leaving = stack.pop()
        if leaving:
            done.append(connection)
        elif connection not in found:
            found[connection] = len(found)
            stack.append((connection, True))
            stack += [(x.connection, False) for x in reversed(connection.inputs) if x not in given]
    depth = dict.fromkeys(done, 0)
    for connection in reversed(done):  # who takes a symbol comes before who makes it
        for x in connection.inputs:
            if x not in given:
                depth[x.connection] = max(depth[x.connection], depth[connection] + 1)
    return sorted(done, key=lambda c: (-depth[c], found[c]))


def _with_own_inputs(inputs, outputs):
    """The same graph with an `Input` in the place of inputs that layers make."""
    values = {
        x: x if _is_input(x) else Input(batch_shape=x.shape, dtype=x.dtype)
        for x in spec.leaves(inputs)
    }
    for connection in in_order(spec.leaves(outputs), frozenset(values)):
        if connection.inputs:
            connection.play(values)
        else:  # an input that is missing, which is found later
            values.update({x: x for x in connection.outputs})
    return spec.map_leaves(values.get, inputs), spec.map_leaves(values.get, outputs)


def _is_input(symbol):
    return isinstance(symbol.connection.layer, InputLayer)


def _symbols(who, what, tree):
    leaves = spec.leaves(tree)
    for x in leaves:
        if not isinstance(x, KerasTensor):
            shape = getattr(x, "shape", None)
            kind = type(x).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
            raise TypeError(
                f"{who}: expected {what} made by Input and layers called on it, got {kind}"
            )
    if not leaves:
        raise ValueError(f"{who}: expected at least one of {what}, got none")
    return leaves


def _check_connected(who, graph):
    for connection in graph.connections:
        if not connection.inputs and connection.outputs[0] not in graph.input_list:
            layer = connection.layer
            raise ValueError(
                f"{who}: expected outputs that follow from the inputs"
                f" {', '.join(graph.input_form.names)}, got one that needs {layer.name}"
                f" {spec.shown(connection.outputs[0].shape[1:])}"
            )


def _check_different(who, what, names):
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(f"{who}: expected {what} of different names, got {name!r} twice")
