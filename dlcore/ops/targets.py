"""Targets, and how far outputs are from them: crossentropies of each element, many-hot vectors,
psnr. The losses of `dlcore.losses` take means of such, and know smoothing, weights and masks."""

import math

from dlcore import config
from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.indexing import one_hot
from dlcore.ops.losses import logits_of, softmax_cross_entropy, sparse_softmax_cross_entropy
from dlcore.ops.op import as_float, cast_to, check_axis, promoted, to_tensor
from dlcore.ops.reduction import max as max_
from dlcore.ops.reduction import mean
from dlcore.ops.reduction import sum as sum_
from dlcore.ops.shaping import moveaxis, reshape
from dlcore.program import dtypes


def _probabilities(p):
    """Limited so far from 0 and 1 that their logarithms are finite."""
    return pw.clip(p, config.epsilon(), 1.0 - config.epsilon())


@traceable(2)
def binary_crossentropy(target, output, from_logits=False):
    """-y log(p) - (1 - y) log(1 - p) of each element; p is `output`, or its sigmoid with
    `from_logits`."""
    p = as_float(output)
    y = cast_to(to_tensor(target), p.dtype)
    if y.shape != p.shape:
        raise ValueError(
            f"binary_crossentropy: expected target and output of one shape, "
            f"got {y.shape} and {p.shape}"
        )
    x = p if from_logits else logits_of(p, "sigmoid")
    if x is not None:
        x = reshape(x, p.shape)
        return pw.maximum(x, 0.0) - x * y + pw.log1p(pw.exp(pw.minimum(-x, x)))
    p = _probabilities(p)
    return -(y * pw.log(p) + (1.0 - y) * pw.log(1.0 - p))


@traceable(2)
def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """-sum(y log p) over `axis`; p is `output` scaled to sum to 1, or its softmax with
    `from_logits`."""
    p = as_float(output)
    y = cast_to(to_tensor(target), p.dtype)
    if y.shape != p.shape or not p.shape:
        raise ValueError(
            f"categorical_crossentropy: expected target and output of one shape with classes, "
            f"got {y.shape} and {p.shape}"
        )
    axis = check_axis("categorical_crossentropy", axis, p.ndim)
    x = p if from_logits else logits_of(p) if axis == p.ndim - 1 else None
    if x is None:
        p = _probabilities(p / sum_(p, axis, True))
        return -sum_(y * pw.log(p), axis)
    rows, labels = (_rows(moveaxis(t, axis, -1)) for t in (x, y))
    return reshape(softmax_cross_entropy(rows, labels), p.shape[:axis] + p.shape[axis + 1 :])


def _rows(x):
    return reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


@traceable(2)
def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """-log(p[target]) along `axis`; p is `output` scaled to sum to 1, or its softmax with
    `from_logits`; NaN for classes there are not."""
    p, labels = as_float(output), pw.cast(to_tensor(target), "int32")
    axis = check_axis("sparse_categorical_crossentropy", axis, p.ndim)
    shape = p.shape[:axis] + p.shape[axis + 1 :]
    if labels.shape not in (shape, (*shape, 1)):
        raise ValueError(
            f"sparse_categorical_crossentropy: expected target {shape} for output {p.shape}, "
            f"got {labels.shape}"
        )
    x = p if from_logits else logits_of(p) if axis == p.ndim - 1 else None
    if x is None:
        x = pw.log(_probabilities(p / sum_(p, axis, True)))
        x = moveaxis(x, axis, -1)
        hot = one_hot(reshape(labels, shape), x.shape[-1], dtype=x.dtype)
        y = -sum_(hot * x, -1)
        known = pw.logical_and(labels >= 0, labels < x.shape[-1])
        return pw.where(reshape(known, shape), y, math.nan)
    rows = _rows(moveaxis(x, axis, -1))
    return reshape(sparse_softmax_cross_entropy(rows, reshape(labels, (-1,))), shape)


@traceable()
def _multi_hot(x, num_classes, axis, dtype):
    x = to_tensor(x)
    if axis not in (-1, x.ndim - 1):
        raise ValueError(f"multi_hot: expected axis -1, got {axis}")
    hot = one_hot(x, num_classes, dtype=dtypes.standardize(dtype, "multi_hot"))
    return max_(hot, axis=-2 if x.ndim else None) if x.ndim else hot


def multi_hot(inputs, num_classes=None, axis=-1, dtype=None, sparse=False, **kwargs):
    """1 at each class named along the last axis of `inputs`, and 0 elsewhere.

    Examples
    --------
    >>> from dlcore import ops
    >>> ops.multi_hot([[0, 2], [1, 1]], 3)
    array([[1., 0., 1.],
           [0., 1., 0.]], dtype=float32)
    """
    num_classes = kwargs.pop("num_tokens", num_classes)
    if num_classes is None or sparse or kwargs:
        raise ValueError(
            f"multi_hot: expected num_classes and dense results, got num_classes={num_classes}, "
            f"sparse={sparse}"
        )
    return _multi_hot(inputs, int(num_classes), axis, dtype)


@traceable(2)
def psnr(x1, x2, max_val):
    """Peak signal-to-noise ratio in decibels: 20 log10(max_val) - 10 log10(mean((x1 - x2)^2))."""
    a, b = promoted(as_float(x1), x2)
    if a.shape != b.shape:
        raise ValueError(f"psnr: expected two arrays of one shape, got {a.shape} and {b.shape}")
    return 20 * math.log10(max_val) - pw.log10(mean(pw.square(a - b))) * 10.0
