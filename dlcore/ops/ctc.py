"""Connectionist temporal classification (Graves et al. 2006): the probability of a text, whatever
the steps are at which its letters are heard, and the text that is most likely.

With blanks between and around the L letters of a text, alpha[t, s] is the probability to be at
place s of these 2 L + 1 after step t:

    alpha[t, s] = (alpha[t-1, s] + alpha[t-1, s-1] + alpha[t-1, s-2]) p[t, letter s]

where the last term is left out at blanks and at a letter like the one before. All is computed in
logarithms, as steps of a program.
"""

import numpy as np

from dlcore.ops import pointwise as pw
from dlcore.ops.activations import log_softmax
from dlcore.ops.calling import traceable
from dlcore.ops.creation import arange
from dlcore.ops.elementary import logaddexp
from dlcore.ops.indexing import argsort, take_along_axis
from dlcore.ops.op import as_float, concrete, to_tensor
from dlcore.ops.reduction import argmax
from dlcore.ops.reduction import max as max_
from dlcore.ops.reduction import sum as sum_
from dlcore.ops.shaping import broadcast_to, concatenate, expand_dims, pad, reshape, stack

_NEVER = -1e30  # logarithm of no probability; infinities would make gradients NaN


@traceable(4)
def ctc_loss(target, output, target_length, output_length, mask_index=0):
    """-log of the probability of texts, over all ways to spread their letters over the steps.

    Parameters
    ----------
    target : (N, L) int
        Letters.
    output : (N, T, C), logits
    target_length, output_length : (N,) int
        How many letters and steps count.
    mask_index : int, default 0
        Number of the blank.

    Returns
    -------
    (N,) float
        Infinite where there are too few steps.
    """
    x, letters = as_float(output), pw.cast(to_tensor(target), "int32")
    if x.ndim != 3 or letters.ndim != 2:
        raise ValueError(
            f"ctc_loss: expected target (N, L) and output (N, T, C), got {letters.shape}"
            f" and {x.shape}"
        )
    (n, steps, classes), count = x.shape, letters.shape[1]
    logp = log_softmax(x)
    blank = logp[:, :, mask_index % classes : mask_index % classes + 1]
    wanted = broadcast_to(expand_dims(letters, 1), (n, steps, count))
    heard = take_along_axis(logp, wanted, -1)
    pairs = stack([broadcast_to(blank, heard.shape), heard], axis=-1)
    heard = concatenate([reshape(pairs, (n, steps, 2 * count)), blank], axis=-1)
    new = pw.not_equal(letters[:, 1:], letters[:, :-1])  # unlike the letter before
    new = pad(reshape(new, (n, count - 1, 1)), ((0, 0), (1, 0), (1, 0)))  # no blank
    skips = pad(reshape(new, (n, 2 * count)), ((0, 0), (0, 1)))
    alpha = pad(heard[:, 0, :2], ((0, 0), (0, 2 * count - 1)), constant_values=_NEVER)
    ends = reshape(to_tensor(output_length), (n, 1))
    for t in range(1, steps):
        one = pad(alpha[:, :-1], ((0, 0), (1, 0)), constant_values=_NEVER)
        two = pad(alpha[:, :-2], ((0, 0), (2, 0)), constant_values=_NEVER)
        two = pw.where(skips, two, _NEVER)
        after = logaddexp(logaddexp(alpha, one), two) + heard[:, t]
        alpha = pw.where(pw.less(t, ends), after, alpha)
    last = reshape(pw.cast(to_tensor(target_length), "int32"), (n, 1)) * 2
    blank_last = take_along_axis(alpha, last, 1)
    letter_last = take_along_axis(alpha, pw.maximum(last - 1, 0), 1)
    letter_last = pw.where(pw.greater(last, 0), letter_last, _NEVER)
    loss = -reshape(logaddexp(blank_last, letter_last), (n,))
    return pw.where(pw.less(loss, -_NEVER / 10), loss, np.inf)


def ctc_decode(
    inputs, sequence_lengths, strategy="greedy", beam_width=100, top_paths=1, merge_repeated=True,
    mask_index=0,
):  # fmt: skip
    """The most likely texts of logits.

    Parameters
    ----------
    inputs : (N, T, C), logits
    sequence_lengths : (N,) int
        How many steps count.
    strategy : {"greedy", "beam_search"}
        The likeliest letter of each step; or, of a concrete array, the likeliest texts among those
        that begin with one of the `beam_width` likeliest beginnings.
    beam_width : int, default 100
    top_paths : int, default 1
        How many texts "beam_search" returns.
    merge_repeated : bool
        Whether "greedy" takes a letter at neighbouring steps for one.
    mask_index : int, default 0
        Number of the blank.

    Returns
    -------
    tuple
        Letters (top_paths, N, T) int32 with -1 after the end, and (N, 1) minus the sum of the
        largest logits, or (N, top_paths) logarithms of probabilities.
    """
    if strategy == "greedy":
        return tuple(_greedy(inputs, sequence_lengths, bool(merge_repeated), mask_index))
    if strategy != "beam_search":
        raise ValueError(
            f"ctc_decode: expected strategy 'greedy' or 'beam_search', got {strategy!r}"
        )
    _, x = concrete("ctc_decode", inputs)
    x = np.asarray(log_softmax(x), "float64")
    letters = np.full((top_paths, *x.shape[:2]), -1, "int32")
    scores = np.full((len(x), top_paths), -np.inf, "float32")
    for i, steps in enumerate(np.asarray(sequence_lengths)):
        found = _beams(x[i, : int(steps)], beam_width, mask_index % x.shape[2])[:top_paths]
        for k, (text, score) in enumerate(found):
            letters[k, i, : len(text)] = text
            scores[i, k] = score
    return letters, scores


@traceable(2)
def _greedy(inputs, lengths, merge, blank):
    x = as_float(inputs)
    n, steps, classes = x.shape
    inside = pw.less(arange(steps), reshape(to_tensor(lengths), (n, 1)))
    best = pw.cast(argmax(x, -1), "int32")
    kept = pw.logical_and(inside, pw.not_equal(best, blank % classes))
    if merge:
        before = pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        kept = pw.logical_and(kept, pw.not_equal(best, before))
    order = argsort(pw.cast(pw.logical_not(kept), "int32"), -1)  # which keeps that of the steps
    found = take_along_axis(best, order, 1)
    count = sum_(pw.cast(kept, "int32"), 1, keepdims=True)
    letters = pw.where(pw.less(arange(steps), count), found, -1)
    score = -sum_(pw.where(inside, max_(x, -1), 0.0), 1, keepdims=True)
    return expand_dims(letters, 0), score


def _beams(logp, width, blank):
    """(text, log p) by falling probability, of which `width` beginnings were kept at each step
    (Graves and Jaitly 2014): of each the probabilities to end with a blank, or with a letter."""
    beams = {(): (0.0, -np.inf)}
    for row in logp:
        after = {}

        def add(text, which, value, after=after):
            old = after.setdefault(text, [-np.inf, -np.inf])
            old[which] = np.logaddexp(old[which], value)

        for text, (quiet, loud) in beams.items():
            whole = np.logaddexp(quiet, loud)
            add(text, 0, whole + row[blank])
            for letter in range(len(row)):
                if letter == blank:
                    continue
                if text and letter == text[-1]:
                    add(text, 1, loud + row[letter])
                    add((*text, letter), 1, quiet + row[letter])
                else:
                    add((*text, letter), 1, whole + row[letter])
        ranked = sorted(after.items(), key=lambda b: -np.logaddexp(*b[1]))
        beams = dict(ranked[:width])
    return [(text, np.logaddexp(*p)) for text, p in beams.items()]
