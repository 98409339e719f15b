"""Cells of recurrent layers: what happens at one step, and the weights for it.

A built-in cell runs a whole sequence as one kernel (`dlcore.ops.lstm` and kin); a cell of your own
defines `state_size` and ``call(inputs, states)`` and is repeated by `RNN`.
"""

from dlcore import activations, ops, random
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.layers.names import inside
from dlcore.layers.signatures import takes


class _Cell(Layer):
    """What the built-in cells share: three weights, two dropouts, a step and a sequence."""

    _gates = 1
    _states = 1

    def __init__(self, given, **kwargs):
        super().__init__(**kwargs)
        self.units = spec.check_positive_int(self.name, "units", given["units"])
        self.use_bias, self.seed = given["use_bias"], given["seed"]
        for name in ("activation", "recurrent_activation"):
            if name in given:
                setattr(self, name, activations.get(given[name]))
        for kind in ("kernel", "recurrent", "bias"):
            parts = ("initializer", "regularizer", "constraint")
            self._describe_weight(kind, *(given[f"{kind}_{part}"] for part in parts))
        for name in ("dropout", "recurrent_dropout"):
            rate = given[name]
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
                raise ValueError(f"{self.name}: expected {name} in 0 <= rate < 1, got {rate!r}")
            setattr(self, name, rate)
        drops = self.dropout or self.recurrent_dropout
        self.seed_generator = random.SeedGenerator(self.seed) if drops else None

    @property
    def state_size(self):
        return self.units if self._states == 1 else [self.units] * self._states

    @property
    def output_size(self):
        return self.units

    def build(self, input_shape):
        width = input_shape[-1]
        if not width:
            raise ValueError(
                f"{self.name}: expected a known number of features, got {tuple(input_shape)}"
            )
        columns = self._gates * self.units
        self.kernel = self._add_described("kernel", (int(width), columns))
        shape = (self.units, columns)
        self.recurrent_kernel = self._add_described("recurrent", shape, "recurrent_kernel")
        self.bias = None
        if self.use_bias:
            shape = self._bias_shape()
            self.bias = self._add_described("bias", shape, initializer=self._first_bias)

    def _bias_shape(self):
        return (self._gates * self.units,)

    def _first_bias(self, shape, dtype):
        return self.bias_initializer(shape, dtype=dtype)

    def get_initial_state(self, batch_size=None):
        """Zeros (batch_size, units) for each state."""
        shape = batch_size, self.units
        return [ops.zeros(shape, self.compute_dtype) for _ in range(self._states)]

    def call(self, inputs, states, training=False):
        """One step: inputs (batch, features), states; returns the output and the new states."""
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        x = ops.expand_dims(inputs, 1)
        y, new = self.sequence(x, states, None, training, False)
        return y[:, 0], new

    def sequence(self, x, states, mask, training, backwards):
        """All steps: x (batch, steps, features), the first states or None, mask (batch, steps) or
        None. Returns all outputs and the last states."""
        drop = None
        rows = x.shape[0]
        if training and self.dropout:
            x = random.dropout(x, self.dropout, (rows, 1, x.shape[2]), self.seed_generator)
        if training and self.recurrent_dropout:
            ones = ops.ones((rows, self.units), self.compute_dtype)
            drop = random.dropout(ones, self.recurrent_dropout, None, self.seed_generator)
        given = dict(zip(("h", "c"), states or (), strict=False))
        y, *last = self._run(x, mask=mask, drop=drop, backwards=backwards, **given)
        return y, last


def _given(values):
    """The arguments of a constructor from its locals(), without self and what comes with it."""
    return {k: v for k, v in values.items() if k not in ("self", "kwargs", "__class__")}


class SimpleRNNCell(_Cell):
    """h' = activation(x w + b + h u).

    Parameters
    ----------
    units, ...
        As `SimpleRNN`.
    """

    def __init__(
        self, units, activation="tanh", use_bias=True, kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal", bias_initializer="zeros", kernel_regularizer=None,
        recurrent_regularizer=None, bias_regularizer=None, kernel_constraint=None,
        recurrent_constraint=None, bias_constraint=None, dropout=0.0, recurrent_dropout=0.0,
        seed=None, **kwargs,
    ):  # fmt: skip
        super().__init__(_given(locals()), **kwargs)

    def _run(self, x, **given):
        return ops.simple_rnn(
            x, self.kernel, self.recurrent_kernel, self.bias, activation=self.activation, **given
        )


class LSTMCell(_Cell):
    """One step of `LSTM`.

    Parameters
    ----------
    units, ...
        As `LSTM`.
    """

    _gates = 4
    _states = 2

    def __init__(
        self, units, activation="tanh", recurrent_activation="sigmoid", use_bias=True,
        kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",
        bias_initializer="zeros", unit_forget_bias=True, kernel_regularizer=None,
        recurrent_regularizer=None, bias_regularizer=None, kernel_constraint=None,
        recurrent_constraint=None, bias_constraint=None, dropout=0.0, recurrent_dropout=0.0,
        seed=None, **kwargs,
    ):  # fmt: skip
        self.unit_forget_bias = unit_forget_bias
        super().__init__(_given(locals()), **kwargs)

    def _first_bias(self, shape, dtype):
        value = super()._first_bias(shape, dtype)
        if self.unit_forget_bias:
            value = value.copy()
            value[self.units : 2 * self.units] = 1
        return value

    def _run(self, x, **given):
        return ops.lstm(
            x, self.kernel, self.recurrent_kernel, self.bias, activation=self.activation,
            recurrent_activation=self.recurrent_activation, **given,
        )  # fmt: skip


class GRUCell(_Cell):
    """One step of `GRU`.

    Parameters
    ----------
    units, ...
        As `GRU`.
    """

    _gates = 3

    def __init__(
        self, units, activation="tanh", recurrent_activation="sigmoid", use_bias=True,
        kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",
        bias_initializer="zeros", kernel_regularizer=None, recurrent_regularizer=None,
        bias_regularizer=None, kernel_constraint=None, recurrent_constraint=None,
        bias_constraint=None, dropout=0.0, recurrent_dropout=0.0, reset_after=True, seed=None,
        **kwargs,
    ):  # fmt: skip
        self.reset_after = reset_after
        super().__init__(_given(locals()), **kwargs)

    def _bias_shape(self):
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def _run(self, x, **given):
        bias, recurrent = self.bias, None
        if bias is not None and self.reset_after:
            bias, recurrent = self.bias[0], self.bias[1]
        return ops.gru(
            x, self.kernel, self.recurrent_kernel, bias, recurrent, activation=self.activation,
            recurrent_activation=self.recurrent_activation, reset_after=self.reset_after, **given,
        )  # fmt: skip


class StackedRNNCells(Layer):
    """Several cells as one: the output of each is the input of the next.

    Parameters
    ----------
    cells : list of cells
    **kwargs
        See `Layer`.
    """

    def __init__(self, cells, **kwargs):
        super().__init__(**kwargs)
        self.cells = [as_cell(self.name, c) for c in cells]

    @property
    def state_size(self):
        return [c.state_size for c in self.cells]

    @property
    def output_size(self):
        return output_size(self.cells[-1])

    def get_initial_state(self, batch_size=None):
        return [x for c in self.cells for x in initial_states(c, batch_size)]

    def call(self, inputs, states, training=False):
        new = []
        for cell in self.cells:
            n = n_states(cell)
            inputs, after = step(cell, inputs, states[:n], training)
            states = states[n:]
            new += after
        return inputs, new


# What `RNN` asks of any cell.


def as_cell(who, cell):
    if isinstance(cell, dict):
        from dlcore.layers import deserialize

        cell = deserialize(cell)
    if not hasattr(cell, "state_size") or not callable(getattr(cell, "call", None)):
        raise ValueError(
            f"{who}: expected cells with state_size and call(inputs, states), got {cell!r}"
        )
    return cell


def _sizes(cell):
    """The width of each state, nested lists flattened."""

    def flat(size):
        return [n for s in size for n in flat(s)] if isinstance(size, (list, tuple)) else [size]

    return flat(cell.state_size)


def n_states(cell):
    return len(_sizes(cell))


def output_size(cell):
    size = getattr(cell, "output_size", None)
    return _sizes(cell)[0] if size is None else size


def initial_states(cell, rows):
    if hasattr(cell, "get_initial_state"):
        states = cell.get_initial_state(batch_size=rows)
        return list(states) if isinstance(states, (list, tuple)) else [states]
    return [ops.zeros((rows, n), cell.compute_dtype) for n in _sizes(cell)]


def step(cell, x, states, training):
    """(output, list of new states) of one step of any cell."""
    kwargs = {"training": training} if takes(type(cell), "training", 0) else {}
    if not cell.built:
        cell._build_for(x)
    with inside(cell):
        y, new = cell.call(x, list(states), **kwargs)
    return y, list(new) if isinstance(new, (list, tuple)) else [new]
