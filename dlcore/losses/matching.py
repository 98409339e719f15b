"""Losses of whole outputs: texts against steps, and points against the points of their class."""

from dlcore import ops
from dlcore.losses.loss import LossFunctionWrapper, as_float

_NEVER = -1e30  # instead of an infinity, which would make gradients NaN


def ctc(y_true, y_pred):
    """-log of the probability of texts; see `dlcore.ops.ctc_loss`.

    Parameters
    ----------
    y_true : (N, L) int
        Letters from 1, and 0 after the end.
    y_pred : (N, T, C), logits
        Class 0 is the blank.

    Returns
    -------
    (N,) float
    """
    y, x = ops.convert_to_tensor(y_true), as_float(y_pred)
    if len(y.shape) != 2 or len(x.shape) != 3:
        raise ValueError(
            f"ctc: expected y_true (N, L) and y_pred (N, T, C), got {tuple(y.shape)} and"
            f" {tuple(x.shape)}"
        )
    letters = ops.sum(ops.cast(ops.not_equal(y, 0), "int32"), axis=-1)
    steps = ops.full((x.shape[0],), x.shape[1], "int32")
    return ops.ctc_loss(y, x, letters, steps)


def circle(
    y_true, y_pred, ref_labels=None, ref_embeddings=None, remove_diagonal=True, gamma=80, margin=0.4
):
    """log(1 + sum exp(gamma max(1 + m - d, 0) (1 - m - d)) sum exp(gamma max(m + d, 0) (d - m)))
    with distances d = max(1 - x . z, 0), in the first sum to points z of other classes, in the
    second to those of the own class.

    Parameters
    ----------
    y_true : (N,) or (N, 1), classes
    y_pred : (N, D)
        Points x, of norm 1.
    ref_labels, ref_embeddings : (R,) or (R, 1), and (R, D), optional
        Classes and points z to compare with, by default the same ones.
    remove_diagonal : bool
        Whether point i is left out of what is compared with x of number i.
    gamma : float
        Scale.
    margin : float
        m above.

    Returns
    -------
    (N,) float

    Source: Sun et al. 2020, https://arxiv.org/abs/2002.10857
    """
    x = as_float(y_pred)
    z = x if ref_embeddings is None else as_float(ref_embeddings)
    own = ops.reshape(ops.cast(y_true, "int32"), (-1, 1))
    others = own if ref_labels is None else ops.reshape(ops.cast(ref_labels, "int32"), (-1, 1))
    if own.shape[0] != x.shape[0] or others.shape[0] != z.shape[0]:
        raise ValueError(
            f"circle: expected a class for each of {x.shape[0]} and {z.shape[0]} points, got"
            f" {own.shape[0]} and {others.shape[0]}"
        )
    same = ops.equal(own, ops.transpose(others))
    different = ops.logical_not(same)
    if remove_diagonal:
        same = ops.logical_and(same, ops.logical_not(ops.eye(*same.shape, dtype="bool")))
    d = ops.maximum(1.0 - ops.matmul(x, ops.transpose(z)), 0.0)
    near = ops.maximum(margin + d, 0.0) * (d - margin) * gamma
    far = ops.maximum(1.0 + margin - d, 0.0) * (1.0 - margin - d) * gamma
    near = ops.logsumexp(ops.where(same, near, _NEVER), axis=1)
    far = ops.logsumexp(ops.where(different, far, _NEVER), axis=1)
    return ops.softplus(near + far)


class CTC(LossFunctionWrapper):
    """`ctc`, reduced.

    Parameters
    ----------
    reduction, name, dtype
        As in `Loss`.
    """

    def __init__(self, reduction="sum_over_batch_size", name="ctc", dtype=None):
        super().__init__(ctc, reduction, name, dtype)


class Circle(LossFunctionWrapper):
    """`circle`, reduced over the points whose loss is not 0.

    Parameters
    ----------
    gamma, margin, remove_diagonal
        As in `circle`.
    reduction, name, dtype
        As in `Loss`.
    """

    def __init__(
        self, gamma=80.0, margin=0.4, remove_diagonal=True, reduction="sum_over_batch_size",
        name="circle", dtype=None,
    ):  # fmt: skip
        self.gamma, self.margin, self.remove_diagonal = gamma, margin, remove_diagonal
        super().__init__(
            circle, reduction, name, dtype, gamma=gamma, margin=margin,
            remove_diagonal=remove_diagonal,
        )  # fmt: skip

    def _counted(self, y_true, mask, values):
        return ops.greater(values, 0.0)
