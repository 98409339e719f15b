"""Functions of `dlcore.ops` made of the kernels of convolution.

Transposed convolution is the gradient of a convolution by its inputs; depthwise convolution has one
group a channel. With "channels_first", the kernels see transposed views: see `conv_kernels`.
"""

from dlcore.ops import conv_kernels  # noqa: F401, registers the ops
from dlcore.ops.calling import traceable
from dlcore.ops.op import OPS, as_float, promoted, to_tensor
from dlcore.ops.shaping import _dense, _ints, reshape
from dlcore.ops.spatial import (
    channels_last,
    check_data_format,
    check_padding,
    check_sizes,
    count_places,
    find_padding,
    from_channels_last,
)


class _Geometry:
    """What the functions have in common: their arguments, checked, and the attributes made of
    them.

    x_shape is (N, H.., C), channels last; w_shape (R.., C / groups, K).
    """

    def __init__(self, name, x_shape, w_shape, strides, padding, dilation_rate):
        self.name, self.x_shape, self.w_shape = name, x_shape, w_shape
        self.rank = len(w_shape) - 2
        if not 1 <= self.rank <= 3 or len(x_shape) != self.rank + 2:
            raise ValueError(
                f"{name}: expected inputs (batch, 1 to 3 spatial axes, channels) and a kernel with "
                f"as many axes, got shapes {x_shape} and {w_shape}"
            )
        if 0 in w_shape:
            raise ValueError(f"{name}: expected a kernel without empty axes, got {w_shape}")
        self.window = w_shape[:-2]
        self.strides = check_sizes(name, "strides", strides, self.rank)
        self.dilation = check_sizes(name, "dilation_rate", dilation_rate, self.rank)
        self.groups, rest = divmod(x_shape[-1], w_shape[-2])
        if rest or not self.groups or w_shape[-1] % self.groups:
            raise ValueError(
                f"{name}: expected {w_shape[-2]} channels in each of some groups that divide the "
                f"{w_shape[-1]} filters of kernel {w_shape}, got inputs {x_shape}"
            )
        self.pairs = find_padding(
            name, padding, x_shape[1:-1], self.window, self.strides, self.dilation
        )

    def attrs(self, shape):
        return {
            "shape": tuple(shape),
            "strides": self.strides,
            "dilation": self.dilation,
            "before": tuple(a for a, _ in self.pairs),
            "groups": self.groups,
        }

    def y_shape(self):
        places = count_places(
            self.x_shape[1:-1], self.pairs, self.window, self.strides, self.dilation
        )
        return (self.x_shape[0], *places, self.w_shape[-1])

    def check_results(self, dy):
        if dy.shape != self.y_shape():
            raise ValueError(
                f"{self.name}: expected dy {self.y_shape()} (channels last) for inputs "
                f"{self.x_shape} and kernel {self.w_shape}, got {dy.shape}"
            )


def _floats(*xs):
    return [as_float(x) for x in promoted(*xs)]


def convolve(name, x, w, strides, padding, dilation_rate):
    """`conv` of channels-last tensors, for the function or layer called `name`."""
    x, w = _floats(x, w)
    geometry = _Geometry(name, x.shape, w.shape, strides, padding, dilation_rate)
    return OPS["conv"](_dense(x), _dense(w), **geometry.attrs(geometry.y_shape()))


def _in_format(f, name, x, w, data_format, *args):
    """f(name, x, w, *args) with x and the result in `data_format`."""
    data_format = check_data_format(name, data_format)
    return from_channels_last(
        f(name, channels_last(to_tensor(x), data_format), w, *args), data_format
    )


@traceable(2)
def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolution (cross-correlation) in 1 to 3 dimensions, as `keras.ops.conv`.

    y[n, p, k] = sum over r, c of x[n, p strides + r dilation_rate - before, c] w[r, c, k]

    Parameters
    ----------
    inputs : array (N, H.., C), or (N, C, H..) for "channels_first"
    kernel : array (R.., C / groups, K)
        The number of groups follows from its shape.
    strides, dilation_rate : int or tuple of int
    padding : "valid", "same", "causal" (one axis), or a pair (before, after) per spatial axis
    data_format : "channels_last" or "channels_first", default `config.image_data_format()`

    Returns
    -------
    array (N, P.., K), or (N, K, P..)

    Raises
    ------
    ValueError
        If shapes do not fit each other or the kernel does not fit into the padded inputs.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x = np.arange(5, dtype="float32").reshape(1, 5, 1)
    >>> dlcore.ops.conv(x, np.ones((3, 1, 1), "float32")).ravel()
    array([3., 6., 9.], dtype=float32)
    """
    return _in_format(
        convolve, "conv", inputs, kernel, data_format, strides, padding, dilation_rate
    )


def convolve_depthwise(name, x, w, strides, padding, dilation_rate):
    """`depthwise_conv` of channels-last tensors, for the function or layer called `name`."""
    x, w = _floats(x, w)
    if w.ndim != x.ndim or w.ndim < 3 or w.shape[-2] != x.shape[-1]:
        raise ValueError(
            f"{name}: expected a kernel (size.., channels, multiplier) for inputs {x.shape} "
            f"(channels last), got {w.shape}"
        )
    w = reshape(w, (*w.shape[:-2], 1, w.shape[-2] * w.shape[-1]))
    return convolve(name, x, w, strides, padding, dilation_rate)


@traceable(2)
def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolution of every channel with filters of its own, as `keras.ops.depthwise_conv`.

    Parameters
    ----------
    inputs : array (N, H.., C)
    kernel : array (R.., C, M)
        Channel c is the source of results c M .. c M + M - 1.
    strides, padding, data_format, dilation_rate
        See `conv`.

    Returns
    -------
    array (N, P.., C M)
    """
    name = "depthwise_conv"
    return _in_format(
        convolve_depthwise, name, inputs, kernel, data_format, strides, padding, dilation_rate
    )


def convolve_separable(name, x, depthwise, pointwise, strides, padding, dilation_rate):
    """`separable_conv` of channels-last tensors, for the function or layer called `name`."""
    y = convolve_depthwise(name, x, depthwise, strides, padding, dilation_rate)
    return convolve(name, y, pointwise, 1, "valid", 1)


@traceable(3)
def separable_conv(
    inputs,
    depthwise_kernel,
    pointwise_kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    """A depthwise convolution, then one of size 1 that mixes channels, as
    `keras.ops.separable_conv`.

    Parameters
    ----------
    inputs : array (N, H.., C)
    depthwise_kernel : array (R.., C, M)
    pointwise_kernel : array (1.., C M, K)
    strides, padding, data_format, dilation_rate
        Of the depthwise convolution; see `conv`.

    Returns
    -------
    array (N, P.., K)
    """
    return _in_format(
        convolve_separable,
        "separable_conv",
        inputs,
        depthwise_kernel,
        data_format,
        pointwise_kernel,
        strides,
        padding,
        dilation_rate,
    )


def convolve_transposed(name, x, w, strides, padding, output_padding, dilation_rate):
    """`conv_transpose` of channels-last tensors, for the function or layer called `name`."""
    x, w = _floats(x, w)
    rank = w.ndim - 2
    if not 1 <= rank <= 3 or x.ndim != w.ndim or x.shape[-1] != w.shape[-1] or 0 in w.shape:
        raise ValueError(
            f"{name}: expected a kernel (size.., filters, channels) for inputs {x.shape} (channels "
            f"last), got {w.shape}"
        )
    strides = check_sizes(name, "strides", strides, rank)
    dilation = check_sizes(name, "dilation_rate", dilation_rate, rank)
    pads, more = check_padding(name, padding, rank), (None,) * rank
    pads = (pads,) * rank if isinstance(pads, str) else pads
    if output_padding is not None:
        more = check_sizes(name, "output_padding", output_padding, rank, least=0)
    spans = [(r - 1) * d + 1 for r, d in zip(w.shape, dilation, strict=False)]
    axes = zip(x.shape[1:-1], spans, strides, more, pads, strict=True)
    before, sizes = zip(*(_grown(*axis) for axis in axes), strict=True)
    if min(sizes) < 1:
        raise ValueError(f"{name}: expected results of at least size 1, got {sizes}")
    attrs = {"strides": strides, "dilation": dilation, "before": before, "groups": 1}
    shape = (x.shape[0], *sizes, w.shape[-2])
    return OPS["conv_input_grad"](_dense(x), _dense(w), shape=shape, **attrs)


def _grown(size, span, stride, more, padding):
    """(values cut off in front, size of the result) on one axis."""
    inner = (size - 1) * stride + span
    if padding == "valid":
        return 0, inner + (max(stride - span, 0) if more is None else more)
    if padding == "same":  # the size that a convolution with "same" padding brings back to `size`
        more = stride - span % 2 if more is None else more
        return max((span - span % 2 - more) // 2, 0), inner - span + span % 2 + more
    return padding[0], inner - sum(padding) + (more or 0)


@traceable(2)
def conv_transpose(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    output_padding=None,
    data_format=None,
    dilation_rate=1,
):
    """Transposed convolution, as `keras.ops.conv_transpose`: the gradient of `conv` by its inputs.

    Parameters
    ----------
    inputs : array (N, P.., C), or (N, C, P..) for "channels_first"
    kernel : array (R.., K, C)
    strides, dilation_rate : int or tuple of int
    padding : "valid", "same", or a pair (before, after) cut off per spatial axis
        The result has (P - 1) stride + E values, E = (R - 1) dilation_rate + 1, or the stride's if
        that is larger; P stride values for "same".
    output_padding : int or tuple of int, optional
        How many values longer the result is than the least: (P - 1) stride + E, or
        (P - 1) stride + E mod 2 for "same".
    data_format : "channels_last" or "channels_first", default `config.image_data_format()`

    Returns
    -------
    array (N, H.., K), or (N, K, H..)
    """
    return _in_format(
        convolve_transposed,
        "conv_transpose",
        inputs,
        kernel,
        data_format,
        strides,
        padding,
        output_padding,
        dilation_rate,
    )


@traceable(2)
def conv_input_grad(
    dy, kernel, input_shape, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    """The gradient of `conv` by its inputs: dx for y = conv(x, kernel, ...) and dloss/dy.

    dx[n, h, c] = sum over all p, r with p strides + r dilation_rate - before = h, and over k, of
    dy[n, p, k] kernel[r, c, k]

    Parameters
    ----------
    dy : array of the shape of y
    kernel : array (R.., C / groups, K)
    input_shape : tuple of int
        Shape of x, in `data_format`.
    strides, padding, data_format, dilation_rate
        Those of `conv`.

    Returns
    -------
    array of shape `input_shape`

    Raises
    ------
    ValueError
        If dy has not the shape of the results of such a convolution.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dy, w = np.ones((1, 3, 1), "float32"), np.ones((3, 1, 1), "float32")
    >>> dlcore.ops.conv_input_grad(dy, w, (1, 5, 1)).ravel()
    array([1., 2., 3., 2., 1.], dtype=float32)
    """
    name = "conv_input_grad"
    shape = _shape_last(name, input_shape, check_data_format(name, data_format))

    def solve(name, dy, w):
        dy, w = _floats(dy, w)
        geometry = _Geometry(name, shape, w.shape, strides, padding, dilation_rate)
        geometry.check_results(dy)
        return OPS[name](_dense(dy), _dense(w), **geometry.attrs(shape))

    return _in_format(solve, name, dy, kernel, data_format)


@traceable(2)
def conv_filter_grad(
    inputs, dy, kernel_shape, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    """The gradient of `conv` by its kernel: dw for y = conv(inputs, w, ...) and dloss/dy.

    dw[r, c, k] = sum over n, p of x[n, p strides + r dilation_rate - before, c] dy[n, p, k]

    Parameters
    ----------
    inputs : array (N, H.., C), or (N, C, H..) for "channels_first"
    dy : array of the shape of y
    kernel_shape : tuple of int
        (R.., C / groups, K)
    strides, padding, data_format, dilation_rate
        Those of `conv`.

    Returns
    -------
    array of shape `kernel_shape`

    Raises
    ------
    ValueError
        If dy has not the shape of the results of such a convolution.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x, dy = np.arange(5, dtype="float32").reshape(1, 5, 1), np.ones((1, 3, 1), "float32")
    >>> dlcore.ops.conv_filter_grad(x, dy, (3, 1, 1)).ravel()
    array([3., 6., 9.], dtype=float32)
    """
    name = "conv_filter_grad"
    x, dy = _floats(inputs, dy)
    data_format = check_data_format(name, data_format)
    x, dy = channels_last(x, data_format), channels_last(dy, data_format)
    shape = _ints(name, kernel_shape)
    geometry = _Geometry(name, x.shape, shape, strides, padding, dilation_rate)
    geometry.check_results(dy)
    return OPS[name](_dense(x), _dense(dy), **geometry.attrs(shape))


def _shape_last(name, shape, data_format):
    shape = _ints(name, shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"{name}: expected sizes of at least 0, got {shape}")
    if data_format == "channels_first":
        return (shape[0], *shape[2:], shape[1]) if len(shape) > 2 else shape
    return shape
