"""Recurrent cells over whole sequences: one product for the inputs of all steps, then one kernel.

    simple_rnn   h' = f(x w + b + h u)
    lstm         i, f, g, o = split(x w + b + h u);  c' = s(f) c + s(i) a(g);  h' = s(o) a(c')
    gru          z, r, g of x w + b and h u + b_u;   h' = z h + (1 - z) a(g), with
                 g = x_g + r (h u_g + b_g)  (reset_after),  or  g = x_g + (r h) u_g

x (B, T, I), w (I, G U), u (U, G U), b (G U) with Keras' order of gates. Hochreiter and Schmidhuber,
"Long short-term memory", 1997; Cho et al. 2014, https://arxiv.org/abs/1406.1078.
"""

from dlcore import backends
from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.creation import zeros
from dlcore.ops.linalg import matmul
from dlcore.ops.op import cast_to, to_tensor
from dlcore.ops.recurrence import recurrence
from dlcore.ops.shaping import concatenate, flip, reshape, transpose
from dlcore.program.dtypes import array_type


def _times(values, masks=()):
    return [pw.multiply(v, m) for v, m in zip(values, masks, strict=True)] if masks else values


def _simple_rnn(activation):
    def step(inputs, states, product):
        x, *drop = inputs
        return [activation(x[0] + product(_times(states, *drop), 0, 1)[0])]

    return step


def _lstm(activation, gate):
    def step(inputs, states, product):
        x, *drop = inputs
        h, c = states
        s = product(_times([h], *drop), 0, 4)
        i, f, g, o = (a + b for a, b in zip(x, s, strict=True))
        c = gate(f) * c + gate(i) * activation(g)
        return [gate(o) * activation(c), c]

    return step


def _gru(activation, gate):
    def step(inputs, states, product):
        x, b, *drop = inputs
        (h,) = states
        s = product(_times([h], *drop), 0, 3)
        z = gate(x[0] + (s[0] + b[0]))
        r = gate(x[1] + (s[1] + b[1]))
        g = activation(x[2] + r * (s[2] + b[2]))
        return [z * h + (1.0 - z) * g]

    return step


def _gru_reset_before(activation, gate):
    def step(inputs, states, product):
        x, *drop = inputs
        (h,) = states
        s = product(_times([h], *drop), 0, 2)
        z, r = gate(x[0] + s[0]), gate(x[1] + s[1])
        g = activation(x[2] + product(_times([r * h], *drop), 1, 1)[0])
        return [z * h + (1.0 - z) * g]

    return step


def _masked(step):
    """A step that leaves the states of rows without a value as they are."""

    def masked(inputs, states, product):
        *inputs, mask = inputs
        after = step(inputs, states, product)
        return [pw.where(mask[0], y, x) for x, y in zip(states, after, strict=True)]

    return masked


_NAMES = ("x", "w", "u", "b", "b_u", "h", "c", "mask", "drop")


@traceable(-1)
def _run(tensors, names, kind, activation, gate, backwards):
    """Outputs (B, T, U) in the order of the steps taken, and the last states."""
    given = dict(zip(names, map(to_tensor, tensors), strict=True))
    x, w, u = given["x"], given["w"], given["u"]
    rows, steps, width = x.shape[0], x.shape[1], u.shape[0]
    dtype, stored = x.dtype, array_type(x.dtype)  # steps of halves are taken in float32
    kept = {k: cast_to(v, stored) if k != "mask" else v for k, v in given.items()}
    step, matrices, constant = _cell(kind, activation, gate, kept, rows, w.shape[1])
    states = [
        kept[s] if s in kept else zeros((rows, width), stored)
        for s in (("h", "c") if kind == "lstm" else ("h",))
    ]
    key = (kind, activation, gate, "drop" in given, "mask" in given)
    pieces = []
    for start, stop in _cut(steps, rows, *w.shape, width)[:: -1 if backwards else 1]:
        n = stop - start
        z = matmul(reshape(transpose(x[:, start:stop], (1, 0, 2)), (n * rows, x.shape[2])), w)
        if "b" in given:
            z = pw.add(z, given["b"])
        sequences = [reshape(cast_to(z, stored), (n, rows, w.shape[1])), *constant]
        if "mask" in given:
            mask = reshape(cast_to(given["mask"][:, start:stop], "bool"), (rows, n, 1))
            sequences.append(transpose(mask, (1, 0, 2)))
        histories = recurrence(step, key, sequences, matrices, states, backwards)
        states = [h[0 if backwards else n] for h in histories]
        y = histories[0][:n] if backwards else histories[0][1:]
        pieces.append(transpose(flip(y, 0) if backwards else y, (1, 0, 2)))
    return [cast_to(t, dtype) for t in (concatenate(pieces, 1), *states)]


def _cell(kind, activation, gate, given, rows, columns):
    """The step of a cell, its matrices, and the sequences after the first that do not change."""
    u, constant = given["u"], []
    matrices, width = [u], u.shape[0]
    step = {"simple_rnn": _simple_rnn, "lstm": _lstm, "gru": _gru}.get(kind, _gru_reset_before)
    step = step(activation) if kind == "simple_rnn" else step(activation, gate)
    if kind == "gru":
        bias = given.get("b_u")
        bias = zeros((columns,), u.dtype) if bias is None else bias
        constant.append(reshape(bias, (1, 1, columns)))
    elif kind == "gru_reset_before":
        matrices = [u[:, : 2 * width], u[:, 2 * width :]]
    if "drop" in given:
        constant.append(reshape(given["drop"], (1, rows, width)))
    return _masked(step) if "mask" in given else step, matrices, constant


# What a sequence's projections, and in the gradient theirs, may take in all, and in a piece of its
# steps: a piece goes from product to product through L2 and L3 instead of memory. As each adds to
# the gradients of the weights, it has several times as many rows as those.
_WHOLE_BYTES, _PIECE_BYTES, _ROWS_PER_WEIGHT = 1 << 23, 1 << 21, 8
_MOST_PIECES = 32  # for the size of programs


def _cut(steps, rows, features, columns, width):
    """Bounds of the pieces of the time."""
    row_bytes, n = columns * 4, 1
    if steps * rows * row_bytes > _WHOLE_BYTES and backends.get_device() == "cpu":
        least = max(_PIECE_BYTES // row_bytes, _ROWS_PER_WEIGHT * (features + width), rows, 1)
        n = min(max(steps * rows // least, 1), _MOST_PIECES)
    return [(steps * i // n, steps * (i + 1) // n) for i in range(n)]


def _linear(x):
    return x


def _function(who, activation):
    """The op that `activation` names, or itself."""
    from dlcore import ops

    if activation in (None, "linear") or callable(activation):
        return activation if callable(activation) else _linear
    if not callable(getattr(ops, str(activation), None)):
        raise ValueError(f"{who}: expected the name of an op or a function, got {activation!r}")
    return getattr(ops, activation)


def _sequence(kind, gates, activation, gate, backwards, **tensors):
    tensors = {k: tensors[k] for k in _NAMES if tensors.get(k) is not None}
    _check(kind.partition("_reset")[0], gates, **tensors)
    y, *last = _run(
        list(tensors.values()),
        tuple(tensors),
        kind,
        _function(kind, activation),
        _function(kind, gate),
        bool(backwards),
    )
    return (y, *last)


def _check(name, gates, x, w, u, b=None, b_u=None, h=None, c=None, mask=None, drop=None):
    def refuse(expected, got):
        raise ValueError(f"{name}: expected {expected}, got {tuple(got.shape)}")

    if len(x.shape) != 3:
        refuse("x (batch, steps, features)", x)
    rows, steps, _ = x.shape
    if len(u.shape) != 2 or u.shape[1] != gates * u.shape[0]:
        refuse(f"u (units, {gates} units)", u)
    width = u.shape[0]
    if tuple(w.shape) != (x.shape[2], gates * width):
        refuse(f"w {(x.shape[2], gates * width)}", w)
    for what, value, shape in (
        ("b", b, (gates * width,)),
        ("recurrent bias", b_u, (gates * width,)),
        ("first state", h, (rows, width)),
        ("first cell state", c, (rows, width)),
        ("mask", mask, (rows, steps)),
        ("recurrent dropout", drop, (rows, width)),
    ):
        if value is not None and tuple(value.shape) != shape:
            refuse(f"{what} {shape}", value)


def simple_rnn(x, w, u, b=None, h=None, mask=None, activation="tanh", backwards=False, drop=None):
    """A simple recurrent network over whole sequences: h' = f(x w + b + h u).

    Parameters
    ----------
    x : (B, T, I) float
    w, u, b : (I, U), (U, U) and (U,), the last optional
    h : (B, U), optional
        First state; zeros by default.
    mask : (B, T) bool, optional
        Where false, the state stays as it was.
    activation : str or callable
        A pointwise function.
    backwards : bool
        From the last step to the first; outputs come in the order of the steps taken, as Keras'
        ``go_backwards``.
    drop : (B, U), optional
        Multiplies h before u: recurrent dropout.

    Returns
    -------
    y : (B, T, U), h : (B, U)
        All states, and the last.

    Examples
    --------
    >>> import numpy as np
    >>> from dlcore import ops
    >>> one = np.ones((1, 1), "float32")
    >>> y, h = ops.simple_rnn(np.ones((1, 3, 1), "float32"), one, one, activation="linear")
    >>> y[0, :, 0].tolist()
    [1.0, 2.0, 3.0]
    """
    return _sequence(
        "simple_rnn", 1, activation, None, backwards, x=x, w=w, u=u, b=b, h=h, mask=mask,
        drop=drop,
    )  # fmt: skip


def lstm(
    x, w, u, b=None, h=None, c=None, mask=None, activation="tanh",
    recurrent_activation="sigmoid", backwards=False, drop=None,
):  # fmt: skip
    """Long short-term memory over whole sequences; gates in Keras' order i, f, g, o.

    Parameters
    ----------
    x : (B, T, I) float
    w, u, b : (I, 4 U), (U, 4 U) and (4 U,), the last optional
    h, c : (B, U), optional
        First states; zeros by default.
    mask, activation, backwards, drop
        See `simple_rnn`.
    recurrent_activation : str or callable
        Of the gates i, f and o.

    Returns
    -------
    y : (B, T, U), h : (B, U), c : (B, U)
        All outputs, and the last states.
    """
    return _sequence(
        "lstm", 4, activation, recurrent_activation, backwards, x=x, w=w, u=u, b=b, h=h, c=c,
        mask=mask, drop=drop,
    )  # fmt: skip


def gru(
    x, w, u, b=None, b_u=None, h=None, mask=None, activation="tanh",
    recurrent_activation="sigmoid", reset_after=True, backwards=False, drop=None,
):  # fmt: skip
    """Gated recurrent units over whole sequences; gates in Keras' order z, r, g.

    Parameters
    ----------
    x : (B, T, I) float
    w, u, b : (I, 3 U), (U, 3 U) and (3 U,), the last optional
    b_u : (3 U,), optional
        Added to h u; with `reset_after` alone.
    h : (B, U), optional
        First state; zeros by default.
    reset_after : bool
        Whether the reset gate multiplies h u_g + b_g rather than h.
    mask, activation, recurrent_activation, backwards, drop
        See `lstm`.

    Returns
    -------
    y : (B, T, U), h : (B, U)
        All states, and the last.
    """
    if b_u is not None and not reset_after:
        raise ValueError("gru: expected b_u=None without reset_after, got a recurrent bias")
    return _sequence(
        "gru" if reset_after else "gru_reset_before", 3, activation, recurrent_activation,
        backwards, x=x, w=w, u=u, b=b, b_u=b_u, h=h, mask=mask, drop=drop,
    )  # fmt: skip
