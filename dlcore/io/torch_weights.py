"""Weights of layers in PyTorch's order and under its names, and back.

Dense       (D, M)              Linear   (M, D)
Conv        (R, S, C, K)        Conv     (K, C, R, S); transposed: (R, S, K, C) and (C, K, R, S)
depthwise   (R, S, C, M)        Conv     (C M, 1, R, S) with groups=C
separable   depthwise, then     Sequential of a depthwise Conv without bias and a Conv of size 1
recurrent   (I, G U)            RNN, LSTM, GRU   (G U, I), with two biases that are added up
            gates of GRU z r g                   r z n
attention   (D, heads, H)       in_proj_weight (3 D, D), heads side by side; three matrices where
                                key or value are of another width (kdim, vdim)
"""

import numpy as np

from dlcore import layers


def weights_to_torch(layer, number=0):
    """The weights of a layer as PyTorch's module of the same kind has them in its `state_dict`.

    Parameters
    ----------
    layer : Layer
        `Dense`, `Embedding`, `Conv1D` to `Conv3D`, `Conv1DTranspose` to `Conv3DTranspose`,
        `DepthwiseConv1D`, `DepthwiseConv2D`, `SeparableConv1D`, `SeparableConv2D`,
        `BatchNormalization`, `LayerNormalization`, `GroupNormalization`, `SimpleRNN`, `LSTM`,
        `GRU`, `Bidirectional` of these, or `MultiHeadAttention`.
    number : int, default 0
        Which one of PyTorch's stacked recurrent layers it is.

    Returns
    -------
    dict of str to ndarray
        Copies. PyTorch loads ``{name: torch.from_numpy(w) for name, w in weights.items()}``.

    Raises
    ------
    ValueError
        PyTorch has no such layer, or the layer has no weights yet.

    Examples
    --------
    >>> import dlcore
    >>> layer = dlcore.layers.Dense(3)
    >>> layer.build((None, 2))
    >>> {name: w.shape for name, w in weights_to_torch(layer).items()}
    {'weight': (3, 2), 'bias': (3,)}
    """
    return {name: np.array(read()) for name, read, _ in _entries(layer, number)}


def weights_from_torch(layer, weights, number=0):
    """Give a layer the weights of PyTorch's module of the same kind.

    Parameters
    ----------
    layer : Layer
        One of those of `weights_to_torch`, built.
    weights : dict of str to array or CPU tensor
        The module's `state_dict`.
    number : int, default 0
        Which one of stacked recurrent layers it is given.

    Raises
    ------
    ValueError
        A weight is missing, is one too many, or has another shape.
    """
    entries = _entries(layer, number)
    expected = [name for name, _, _ in entries]
    given = {name: np.asarray(w) for name, w in weights.items() if _belongs(layer, name, number)}
    if set(given) != set(expected):
        raise ValueError(f"{layer.name}: expected weights {expected}, got {sorted(given)}")
    for name, read, _ in entries:
        shape = np.shape(read())
        if given[name].shape != shape:
            raise ValueError(
                f"{layer.name}: expected {name} of shape {shape}, got {given[name].shape}"
            )
    for name, _, write in entries:
        write(given[name], given)


def _belongs(layer, name, number):
    stacked = isinstance(layer, (layers.RNN, layers.Bidirectional))
    other = stacked and not name.removesuffix("_reverse").endswith(f"_l{number}")
    return not other and name != "num_batches_tracked"


def _entries(layer, number):
    """[(name, function that reads the weight, function (weight, all weights) that sets it)]"""
    if not layer.built:
        raise ValueError(f"{layer.name}: expected a layer with weights; call it or build it first")
    if isinstance(layer, layers.Bidirectional):
        ways = (layer.forward_layer, ""), (layer.backward_layer, "_reverse")
        return [e for way, suffix in ways for e in _recurrent(way, f"_l{number}{suffix}")]
    if isinstance(layer, layers.RNN):
        return _recurrent(layer, f"_l{number}")
    if isinstance(layer, layers.MultiHeadAttention):
        return _attention(layer)
    return _plain(layer)


def _plain(layer):
    """Layers whose weights differ in the order of the axes alone."""
    if isinstance(layer, layers.Embedding):
        names = {"weight": layer.embeddings}
    elif isinstance(layer, layers.DepthwiseConv2D):
        return [_by_channel("weight", layer.kernel), *_bias_of(layer, "bias")]
    elif isinstance(layer, layers.SeparableConv2D):
        depthwise = _by_channel("0.weight", layer.depthwise_kernel)
        return [depthwise, _moved("1.weight", layer.pointwise_kernel), *_bias_of(layer, "1.bias")]
    elif isinstance(layer, (*_CONVOLUTIONS, layers.Dense)):
        return [_moved("weight", layer.kernel), *_bias_of(layer, "bias")]
    elif isinstance(layer, _NORMALIZATIONS):
        names = {"weight": layer.gamma, "bias": layer.beta}
        if isinstance(layer, layers.BatchNormalization):
            names |= {"running_mean": layer.moving_mean, "running_var": layer.moving_variance}
    else:
        raise ValueError(
            f"{layer.name}: expected a kind of layer that PyTorch has too, got "
            f"{type(layer).__name__}"
        )
    return [_as_it_is(name, variable) for name, variable in names.items() if variable is not None]


_CONVOLUTIONS = (
    layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Conv1DTranspose, layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)  # fmt: skip
_NORMALIZATIONS = layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization


def _bias_of(layer, name):
    bias = getattr(layer, "bias", None)
    return [] if bias is None else [_as_it_is(name, bias)]


def _as_it_is(name, variable):
    return name, lambda: np.asarray(variable), lambda w, _: variable.assign(w)


def _moved(name, variable):
    """Of a matrix or filters: the last two axes swapped and in front."""
    n = len(variable.shape)
    order = n - 1, n - 2, *range(n - 2)
    back = np.argsort(order)
    return (
        name,
        lambda: np.asarray(variable).transpose(order),
        lambda w, _: variable.assign(w.transpose(back)),
    )


def _by_channel(name, variable):
    """Of depthwise filters (R, S, C, M): the M of a channel behind each other, (C M, 1, R, S)."""
    size, (c, m) = tuple(variable.shape[:-2]), variable.shape[-2:]
    n = len(size)
    return (
        name,
        lambda: np.asarray(variable).transpose(n, n + 1, *range(n)).reshape(c * m, 1, *size),
        lambda w, _: variable.assign(w.reshape(c, m, *size).transpose(*range(2, n + 2), 0, 1)),
    )


def _recurrent(layer, suffix):
    gates = {layers.SimpleRNN: (0,), layers.LSTM: (0, 1, 2, 3), layers.GRU: (1, 0, 2)}
    order = gates.get(type(layer))
    if order is None or not getattr(layer.cell, "reset_after", True):
        raise ValueError(
            f"{layer.name}: expected a SimpleRNN, an LSTM, or a GRU with reset_after=True, which "
            f"PyTorch has too, got {type(layer).__name__}"
        )
    cell = layer.cell

    def by_gates(w):
        """The same with its last axis in the other order of gates, which is its own inverse."""
        w = np.asarray(w)
        w = w.reshape(*w.shape[:-1], len(order), -1)
        return w[..., order, :].reshape(*w.shape[:-2], -1)

    def matrix(name, variable):
        return (
            f"{name}{suffix}",
            lambda: by_gates(variable).T,
            lambda w, _: variable.assign(by_gates(w.T)),
        )

    entries = [matrix("weight_ih", cell.kernel), matrix("weight_hh", cell.recurrent_kernel)]
    if cell.bias is None:
        return entries

    def biases():
        b = by_gates(cell.bias)
        return b if b.ndim == 2 else np.stack([b, np.zeros_like(b)])

    def set_biases(_, weights):
        b = np.stack([weights[f"bias_{side}{suffix}"] for side in ("ih", "hh")])
        cell.bias.assign(by_gates(b if len(cell.bias.shape) == 2 else b.sum(axis=0)))

    return [
        *entries,
        (f"bias_ih{suffix}", lambda: biases()[0], set_biases),
        (f"bias_hh{suffix}", lambda: biases()[1], lambda w, _: None),
    ]


def _attention(layer):
    dense = layer.query_dense, layer.key_dense, layer.value_dense
    out = layer.output_dense
    width = layer.num_heads * layer.key_dim
    if (dense[0].kernel.shape[0], layer.value_dim, out.kernel.shape[-1]) != (
        width, layer.key_dim, width,
    ):  # fmt: skip
        raise ValueError(
            f"{layer.name}: expected queries and outputs as wide as all heads together, {width}, "
            "and values of heads as wide as keys, which PyTorch's order asks for"
        )

    def matrix(d):
        return np.asarray(d.kernel).reshape(d.kernel.shape[0], width).T

    def set_matrix(d, w):
        d.kernel.assign(w.T.reshape(d.kernel.shape))

    def set_matrices(w, _):
        for d, part in zip(dense, np.split(w, 3), strict=True):
            set_matrix(d, part)

    def set_biases(w, _):
        for d, part in zip(dense, np.split(w, 3), strict=True):
            d.bias.assign(part.reshape(d.bias.shape))

    if all(d.kernel.shape[0] == width for d in dense):
        whole = "in_proj_weight", lambda: np.concatenate([*map(matrix, dense)]), set_matrices
        projections = [whole]
    else:
        projections = [
            (f"{x}_proj_weight", lambda d=d: matrix(d), lambda w, _, d=d: set_matrix(d, w))
            for x, d in zip("qkv", dense, strict=True)
        ]
    entries = [
        *projections,
        (
            "out_proj.weight",
            lambda: np.asarray(out.kernel).reshape(width, -1).T,
            lambda w, _: out.kernel.assign(w.T.reshape(out.kernel.shape)),
        ),
    ]
    if not layer.use_bias:
        return entries
    return [
        *entries,
        ("in_proj_bias", lambda: np.concatenate([np.ravel(d.bias) for d in dense]), set_biases),
        _as_it_is("out_proj.bias", out.bias),
    ]
