"""Activations: functions of one array, written with `dlcore.ops`; any such callable will do."""

import warnings

from dlcore import lookup, ops


def linear(x):
    """x.

    Examples
    --------
    >>> print(linear(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-1.   0.5  8. ]
    """
    return x


def relu(x, negative_slope=0.0, max_value=None, threshold=0.0):
    """x from threshold to max_value, max_value above, negative_slope (x - threshold) below.

    Parameters
    ----------
    x : array
    negative_slope : float, default 0
    max_value : float or None
    threshold : float, default 0

    Examples
    --------
    >>> print(relu(ops.array([-1.0, 0.5, 8.0])).round(3))
    [0.  0.5 8. ]
    """
    if max_value is not None and max_value < 0:
        raise ValueError(f"relu: expected max_value >= 0, got {max_value}")
    if threshold != 0:
        x = ops.convert_to_tensor(x)
        y = ops.where(ops.greater(x, threshold), x, negative_slope * (x - threshold))
    elif negative_slope != 0:
        y = ops.leaky_relu(x, negative_slope=negative_slope)
    else:
        y = ops.relu(x)
    return y if max_value is None else ops.minimum(y, max_value)


def relu6(x):
    """min(max(x, 0), 6).

    Examples
    --------
    >>> print(relu6(ops.array([-1.0, 0.5, 8.0])).round(3))
    [0.  0.5 6. ]
    """
    return ops.relu6(x)


def leaky_relu(x, negative_slope=0.2):
    """x where x > 0, else negative_slope x.

    Examples
    --------
    >>> print(leaky_relu(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.2  0.5  8. ]
    """
    return ops.leaky_relu(x, negative_slope=negative_slope)


def elu(x, alpha=1.0):
    """x where x > 0, else alpha (exp(x) - 1).

    Source: Clevert et al. 2016, https://arxiv.org/abs/1511.07289

    Examples
    --------
    >>> print(elu(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.632  0.5    8.   ]
    """
    return ops.elu(x, alpha=alpha)


def selu(x):
    """s x where x > 0, else s a (exp(x) - 1) with s = 1.0507..., a = 1.6732...

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515

    Examples
    --------
    >>> print(selu(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-1.111  0.525  8.406]
    """
    return ops.selu(x)


def celu(x, alpha=1.0):
    """max(x, 0) + min(0, alpha (exp(x / alpha) - 1)).

    Source: Barron 2017, https://arxiv.org/abs/1704.07483

    Examples
    --------
    >>> print(celu(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.632  0.5    8.   ]
    """
    return ops.celu(x, alpha=alpha)


def gelu(x, approximate=False):
    """x Phi(x) with the normal distribution function Phi; `approximate` uses its tanh form.

    Source: Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415

    Examples
    --------
    >>> print(gelu(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.159  0.346  8.   ]
    """
    return ops.gelu(x, approximate=approximate)


def silu(x):
    """x sigmoid(x), also called swish.

    Examples
    --------
    >>> print(silu(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.269  0.311  7.997]
    """
    return ops.silu(x)


def sigmoid(x):
    """1 / (1 + exp(-x)).

    Examples
    --------
    >>> print(sigmoid(ops.array([-1.0, 0.5, 8.0])).round(3))
    [0.269 0.622 1.   ]
    """
    return ops.sigmoid(x)


def log_sigmoid(x):
    """log(sigmoid(x)).

    Examples
    --------
    >>> print(log_sigmoid(ops.array([-1.0, 0.5, 1.0])).round(3))
    [-1.313 -0.474 -0.313]
    """
    return ops.log_sigmoid(x)


def tanh(x):
    """Hyperbolic tangent.

    Examples
    --------
    >>> print(tanh(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.762  0.462  1.   ]
    """
    return ops.tanh(x)


def tanh_shrink(x):
    """x - tanh(x).

    Examples
    --------
    >>> print(tanh_shrink(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.238  0.038  7.   ]
    """
    return ops.tanh_shrink(x)


def softplus(x):
    """log(1 + exp(x)).

    Examples
    --------
    >>> print(softplus(ops.array([-1.0, 0.5, 8.0])).round(3))
    [0.313 0.974 8.   ]
    """
    return ops.softplus(x)


def softsign(x):
    """x / (1 + |x|).

    Examples
    --------
    >>> print(softsign(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.5    0.333  0.889]
    """
    return ops.softsign(x)


def soft_shrink(x, threshold=0.5):
    """sign(x) max(|x| - threshold, 0).

    Examples
    --------
    >>> print(soft_shrink(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.5  0.   7.5]
    """
    return ops.soft_shrink(x, threshold=threshold)


def hard_shrink(x, threshold=0.5):
    """x where |x| > threshold, else 0.

    Examples
    --------
    >>> print(hard_shrink(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-1.  0.  8.]
    """
    return ops.where(ops.greater(ops.abs(x), threshold), x, 0.0)


def threshold(x, threshold, default_value):
    """x where x > threshold, else default_value.

    Examples
    --------
    >>> print(threshold(ops.array([-1.0, 0.5, 8.0]), 0.0, 5.0).round(3))
    [5.  0.5 8. ]
    """
    return ops.where(ops.greater(x, threshold), x, default_value)


def squareplus(x, b=4):
    """(x + sqrt(x^2 + b)) / 2.

    Source: Barron 2021, https://arxiv.org/abs/2112.11687

    Examples
    --------
    >>> print(squareplus(ops.array([-1.0, 0.5, 8.0])).round(3))
    [0.618 1.281 8.123]
    """
    return ops.squareplus(x, b)


def mish(x):
    """x tanh(softplus(x)).

    Source: Misra 2019, https://arxiv.org/abs/1908.08681

    Examples
    --------
    >>> print(mish(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.303  0.375  8.   ]
    """
    return ops.mish(x)


def hard_sigmoid(x):
    """min(max(x / 6 + 1 / 2, 0), 1).

    Examples
    --------
    >>> print(hard_sigmoid(ops.array([-1.0, 0.5, 8.0])).round(3))
    [0.333 0.583 1.   ]
    """
    return ops.hard_sigmoid(x)


def hard_silu(x):
    """x hard_sigmoid(x), also called hard_swish.

    Examples
    --------
    >>> print(hard_silu(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-0.333  0.292  8.   ]
    """
    return ops.hard_silu(x)


def hard_tanh(x):
    """min(max(x, -1), 1).

    Examples
    --------
    >>> print(hard_tanh(ops.array([-1.0, 0.5, 8.0])).round(3))
    [-1.   0.5  1. ]
    """
    return ops.hard_tanh(x)


def exponential(x):
    """exp(x).

    Examples
    --------
    >>> print(exponential(ops.array([-1.0, 0.0, 1.0])).round(3))
    [0.368 1.    2.718]
    """
    return ops.exp(x)


def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) over `axis`.

    Examples
    --------
    >>> print(softmax(ops.array([[-1.0, 0.5, 8.0]])).round(3))
    [[0.    0.001 0.999]]
    """
    shape = getattr(x, "shape", ())
    if isinstance(axis, int) and -len(shape) <= axis < len(shape) and shape[axis] == 1:
        warnings.warn(
            f"softmax: expected an axis of several values, got shape {tuple(shape)}, where it is"
            " always 1; sigmoid is for one output",
            stacklevel=3,
        )
    return ops.softmax(x, axis=axis)


def log_softmax(x, axis=-1):
    """log(softmax(x)) over `axis`.

    Examples
    --------
    >>> print(log_softmax(ops.array([[-1.0, 0.5, 1.0]])).round(3))
    [[-2.555 -1.055 -0.555]]
    """
    return ops.log_softmax(x, axis=axis)


def glu(x, axis=-1):
    """First half of x times the sigmoid of the second half, along `axis`.

    Source: Dauphin et al. 2017, https://arxiv.org/abs/1612.08083

    Examples
    --------
    >>> print(glu(ops.array([1.0, 2.0, 0.0, 8.0])).round(3))
    [0.5   1.999]
    """
    return ops.glu(x, axis=axis)


def sparse_plus(x):
    """0 below -1, (x + 1)^2 / 4 up to 1, x above.

    Examples
    --------
    >>> print(sparse_plus(ops.array([-1.0, 0.5, 8.0])).round(3))
    [0.    0.562 8.   ]
    """
    return ops.sparse_plus(x)


def sparse_sigmoid(x):
    """(x + 1) / 2, limited to 0..1.

    Examples
    --------
    >>> print(sparse_sigmoid(ops.array([-1.0, 0.5, 8.0])).round(3))
    [0.   0.75 1.  ]
    """
    return ops.sparse_sigmoid(x)


def sparsemax(x, axis=-1):
    """Softmax with zeros: max(x - t, 0) with t such that they sum to 1 over `axis`.

    Source: Martins and Astudillo 2016, https://arxiv.org/abs/1602.02068

    Examples
    --------
    >>> print(sparsemax(ops.array([[-1.0, 0.5, 1.0]])).round(3))
    [[0.   0.25 0.75]]
    """
    return ops.sparsemax(x, axis=axis)


swish, hard_swish = silu, hard_silu

_TABLE = lookup.table_of(
    [
        linear, relu, relu6, leaky_relu, elu, selu, celu, gelu, silu, sigmoid, log_sigmoid, tanh,
        tanh_shrink, softplus, softsign, soft_shrink, hard_shrink, squareplus, mish, hard_sigmoid,
        hard_silu, hard_tanh, exponential, softmax, log_softmax, glu, sparse_plus, sparse_sigmoid,
        sparsemax,
    ],
    {"swish": silu, "hard_swish": hard_silu, "identity": linear},
)  # fmt: skip


def get(identifier):
    """The activation that None (linear), a name, a dictionary or a callable stands for.

    Examples
    --------
    >>> from dlcore import activations
    >>> activations.get("relu").__name__
    'relu'
    """
    if identifier is None:
        return linear
    return lookup.get("activation", _TABLE, identifier)


def serialize(activation):
    """The name of a function, or {"class_name": ..., "config": {...}} of a layer used as one."""
    return lookup.serialize(activation)


def deserialize(config, custom_objects=None):
    """The activation that `serialize` wrote; `custom_objects` maps names to your own functions."""
    return lookup.deserialize("activation", _TABLE, config, custom_objects)
