"""Recurrent layers: a cell run over the steps of (batch, steps, features).

The built-in cells run all steps as one kernel; any other cell is written out step by step into the
program.
"""

import numpy as np

from dlcore import lookup, ops
from dlcore.layers import recurrent_cells as cells
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.program import Variable


class RNN(Layer):
    """A cell, repeated over time.

    Parameters
    ----------
    cell : cell or list of cells
        `SimpleRNNCell`, `LSTMCell`, `GRUCell`, `StackedRNNCells`, or a layer of your own with
        ``state_size`` (an int or a list) and ``call(inputs, states)`` that returns the output and
        the list of new states.
    return_sequences : bool
        Whether to return the outputs of all steps rather than the last.
    return_state : bool
        Whether to return the last states too.
    go_backwards : bool
        From the last step to the first.
    stateful : bool
        Whether a batch starts with the states that the batch before ended with, row by row.
    unroll : bool
        Accepted for Keras' sake: speed does not depend on it.
    zero_output_for_mask : bool
        Whether outputs of masked steps are 0 rather than those of the step before.
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, cell, return_sequences=False, return_state=False, go_backwards=False,
        stateful=False, unroll=False, zero_output_for_mask=False, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        if isinstance(cell, (list, tuple)):
            cell = cells.StackedRNNCells(cell)
        self.cell = cells.as_cell(self.name, cell)
        self.return_sequences, self.return_state = bool(return_sequences), bool(return_state)
        self.go_backwards, self.stateful, self.unroll = bool(go_backwards), bool(stateful), unroll
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.supports_masking = True
        self._states = None  # not weights

    _ndim = 3  # of the input

    def _check_input(self, shape):
        if len(shape) != self._ndim:
            features = ", ".join(["batch", "steps", "features", "..", ".."][: self._ndim])
            hint = "; a recurrent layer before it needs return_sequences=True"
            raise ValueError(
                f"{self.name}: expected input ({features}), got {tuple(shape)}"
                f"{hint if len(shape) == self._ndim - 1 else ''}"
            )

    def build(self, input_shape):
        shape = input_shape[0] if isinstance(input_shape, list) else input_shape
        self._check_input(shape)
        if not self.cell.built:
            self.cell.build((shape[0], *shape[2:]))

    def call(self, inputs, initial_state=None, mask=None, training=False):
        if isinstance(inputs, (list, tuple)):
            inputs, *initial_state = inputs
        self._check_input(inputs.shape)
        x = self._as_float(inputs)
        states = self._first_states(initial_state, x.shape[0])
        run = _sequence if hasattr(self.cell, "sequence") else _repeat
        y, last = run(self.cell, x, states, mask, training, self.go_backwards)
        states_alone = y if hasattr(self.cell, "sequence") else None
        if mask is not None:
            order = ops.flip(mask, 1) if self.go_backwards else mask
            if self.zero_output_for_mask:
                y = ops.where(_like(order, y), y, 0.0)
            elif initial_state is not None or self.stateful:
                y = ops.where(_like(_begun(order), y), y, 0.0)
        if self.stateful and not spec.any_rows():
            for variable, value in zip(self._states, last, strict=True):
                variable.assign(value)
        if not self.return_sequences:  # the state, where it is that: its gradient is one row
            y = last[0] if y is states_alone else y[:, -1]
        return [y, *last] if self.return_state else y

    def _first_states(self, given, rows):
        if given is not None:
            given = list(given) if isinstance(given, (list, tuple)) else [given]
            if len(given) != cells.n_states(self.cell):
                raise ValueError(
                    f"{self.name}: expected {cells.n_states(self.cell)} initial states, got "
                    f"{len(given)}"
                )
            self._check_states(given, rows)
            return given
        if not self.stateful or spec.any_rows():
            return cells.initial_states(self.cell, rows)
        if self._states is None:
            with spec.suspended():
                zeros = cells.initial_states(self.cell, rows)
                self._states = [Variable(np.asarray(z), trainable=False) for z in zeros]
        if self.states[0].shape[0] != rows:
            raise ValueError(
                f"{self.name}: expected batches of {self.states[0].shape[0]} rows, as the first "
                f"one of this stateful layer, got {rows}; build a new model for another batch size"
            )
        return [v.value for v in self.states]

    def _check_states(self, given, rows):
        if not hasattr(self.cell, "sequence"):  # of a user's cell any state may have any shape
            return
        for state in given:
            shape = tuple(state.shape)
            if len(shape) == 2 and shape[1] != self.cell.units:
                raise ValueError(
                    f"{self.name}: expected initial states ({rows}, {self.cell.units}), got {shape}"
                )

    @property
    def state_size(self):
        """List of the widths of the states, as the cell tells them."""
        size = self.cell.state_size
        return list(size) if isinstance(size, (list, tuple)) else [size]

    def get_initial_state(self, batch_size=None):
        """List of the states, zeros, that sequences begin with."""
        return cells.initial_states(self.cell, batch_size)

    @property
    def states(self):
        """The variables in which a stateful layer keeps its states, or None before the first
        batch."""
        return self._states

    def reset_states(self):
        """Forget the states of a stateful layer."""
        for variable in self.states or ():
            variable.assign(np.zeros(variable.shape, variable.dtype))

    reset_state = reset_states

    def compute_mask(self, inputs, mask=None):
        """The mask of the outputs: the inputs' own where all steps are returned."""
        mask = mask[0] if isinstance(mask, list) else mask
        output = mask if self.return_sequences else None
        if not self.return_state:
            return output
        return [output] + [None] * cells.n_states(self.cell)


def _like(mask, y):
    """A mask (batch, steps) with axes to broadcast to y (batch, steps, ..)."""
    return ops.reshape(mask, (*mask.shape, *(1,) * (len(y.shape) - 2)))


def _begun(mask):
    """Whether a step or one before it has a value: outputs before that are 0, whatever the first
    state is, as in Keras."""
    steps = ops.arange(mask.shape[1])
    first = ops.min(ops.where(mask, steps, mask.shape[1]), axis=1, keepdims=True)
    return ops.greater_equal(steps, first)


def _sequence(cell, x, states, mask, training, backwards):
    return cell.sequence(x, states, mask, training, backwards)


def _repeat(cell, x, states, mask, training, backwards):
    """All steps of any cell, one by one."""
    steps, ys, y = x.shape[1], [], None
    for t in range(steps)[:: -1 if backwards else 1]:
        out, new = cells.step(cell, x[:, t], states, training)
        if mask is not None:
            keep = ops.expand_dims(mask[:, t], -1)
            out = ops.where(keep, out, ops.zeros_like(out) if y is None else y)
            new = [ops.where(keep, a, b) for a, b in zip(new, states, strict=True)]
        y, states = out, new
        ys.append(y)
    return ops.stack(ys, axis=1), states


class _Recurrent(RNN):
    """A layer that makes its own cell from the constructor's arguments."""

    def __init__(self, cell, given, **kwargs):
        own = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll")
        own = {k: given.pop(k) for k in own}
        for name in ("activity_regularizer", "zero_output_for_mask"):
            if name in given:
                kwargs[name] = given.pop(name)
        given.pop("use_cudnn", None)
        given["name"] = lookup.snake_case(cell.__name__.lstrip("_"))
        dtype = {"dtype": kwargs["dtype"]} if "dtype" in kwargs else {}
        super().__init__(cell(**given, **dtype), **own, **kwargs)

    def __getattr__(self, name):  # units, activation, ... are the cell's
        cell = self.__dict__.get("cell")
        if cell is None or name not in lookup.argument_names(type(cell)):
            raise AttributeError(f"{type(self).__name__}: expected a public name, got {name!r}")
        return getattr(cell, name)

    def get_config(self):
        config = {**self.cell.get_config(), **super().get_config()}
        known = lookup.argument_names(type(self))
        return {k: v for k, v in config.items() if k in known and k != "cell"}

    @property
    def kernel(self):
        return self.cell.kernel

    @property
    def recurrent_kernel(self):
        return self.cell.recurrent_kernel

    @property
    def bias(self):
        return self.cell.bias


class SimpleRNN(_Recurrent):
    """A fully connected recurrent layer: h' = activation(x w + b + h u).

    Parameters
    ----------
    units : int
        Width U of the state.
    activation : str or callable, default "tanh"
        A pointwise function.
    use_bias : bool, default True
    kernel_initializer, recurrent_initializer, bias_initializer
        Of w (features, U), u (U, U) and b (U).
    kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer : optional
    dropout, recurrent_dropout : float, 0 <= rate < 1
        While training, of the inputs and of h before u: one mask for all steps (Gal and
        Ghahramani 2016, https://arxiv.org/abs/1512.05287).
    seed : int, optional
        Of the dropouts.
    return_sequences, return_state, go_backwards, stateful, unroll, **kwargs
        See `RNN`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.SimpleRNN(4, return_sequences=True)
    >>> layer(np.zeros((2, 5, 3), "float32")).shape
    (2, 5, 4)
    """

    def __init__(
        self, units, activation="tanh", use_bias=True, kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal", bias_initializer="zeros", kernel_regularizer=None,
        recurrent_regularizer=None, bias_regularizer=None, activity_regularizer=None,
        kernel_constraint=None, recurrent_constraint=None, bias_constraint=None, dropout=0.0,
        recurrent_dropout=0.0, return_sequences=False, return_state=False, go_backwards=False,
        stateful=False, unroll=False, seed=None, **kwargs,
    ):  # fmt: skip
        super().__init__(cells.SimpleRNNCell, cells._given(locals()), **kwargs)


class LSTM(_Recurrent):
    """Long short-term memory.

        i, f, g, o = split(x w + b + h u)
        c' = s(f) c + s(i) a(g)
        h' = s(o) a(c')

    Parameters
    ----------
    units : int
        Width U of the states.
    activation : str or callable, default "tanh"
        a, a pointwise function.
    recurrent_activation : str or callable, default "sigmoid"
        s, of the gates.
    unit_forget_bias : bool, default True
        Whether the bias of the gate f starts at 1 (Jozefowicz et al. 2015).
    use_bias, kernel_initializer, ..., **kwargs
        See `SimpleRNN`. w (features, 4 U), u (U, 4 U), b (4 U).

    References
    ----------
    Hochreiter and Schmidhuber 1997, "Long short-term memory"

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.LSTM(4)(np.zeros((2, 5, 3), "float32")).shape
    (2, 4)
    """

    def __init__(
        self, units, activation="tanh", recurrent_activation="sigmoid", use_bias=True,
        kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",
        bias_initializer="zeros", unit_forget_bias=True, kernel_regularizer=None,
        recurrent_regularizer=None, bias_regularizer=None, activity_regularizer=None,
        kernel_constraint=None, recurrent_constraint=None, bias_constraint=None, dropout=0.0,
        recurrent_dropout=0.0, seed=None, return_sequences=False, return_state=False,
        go_backwards=False, stateful=False, unroll=False, use_cudnn="auto", **kwargs,
    ):  # fmt: skip
        super().__init__(cells.LSTMCell, cells._given(locals()), **kwargs)


class GRU(_Recurrent):
    """Gated recurrent units.

        z, r = s(split(x w + b + h u + b_u))
        g = a(x w_g + b_g + r (h u_g + b_ug))      with reset_after, else
        g = a(x w_g + b_g + (r h) u_g)
        h' = z h + (1 - z) g

    Parameters
    ----------
    units : int
        Width U of the state.
    activation : str or callable, default "tanh"
        a, a pointwise function.
    recurrent_activation : str or callable, default "sigmoid"
        s, of the gates.
    reset_after : bool, default True
        Whether the reset gate comes after the product; the bias is then (2, 3 U).
    use_bias, kernel_initializer, ..., **kwargs
        See `SimpleRNN`. w (features, 3 U), u (U, 3 U), b (3 U) or (2, 3 U).

    References
    ----------
    Cho et al. 2014, https://arxiv.org/abs/1406.1078

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.GRU(4)(np.zeros((2, 5, 3), "float32")).shape
    (2, 4)
    """

    def __init__(
        self, units, activation="tanh", recurrent_activation="sigmoid", use_bias=True,
        kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",
        bias_initializer="zeros", kernel_regularizer=None, recurrent_regularizer=None,
        bias_regularizer=None, activity_regularizer=None, kernel_constraint=None,
        recurrent_constraint=None, bias_constraint=None, dropout=0.0, recurrent_dropout=0.0,
        seed=None, return_sequences=False, return_state=False, go_backwards=False, stateful=False,
        unroll=False, reset_after=True, use_cudnn="auto", **kwargs,
    ):  # fmt: skip
        super().__init__(cells.GRUCell, cells._given(locals()), **kwargs)
