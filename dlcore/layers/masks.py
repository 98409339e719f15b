"""Masks: which steps of a sequence count.

A tensor carries its mask (batch, steps) of bools, or None, in its attribute `mask`. `Embedding` and
`Masking` make masks, layers that support masking hand them on, a layer whose `call` has a parameter
`mask` gets it, and losses and metrics leave masked values out. Symbols know the shape of their
mask, and arrays that layers return carry it too, as `MaskedArray`.
"""

import warnings

import numpy as np

from dlcore.layers import spec
from dlcore.program.function import flatten, unflatten


class MaskedArray(np.ndarray):
    """What a layer that is called on arrays returns where its result has a mask: an array with
    the attribute `mask`. What NumPy computes of it has none.
    """

    mask = None

    @property
    def _keras_mask(self):
        return self.mask

    def __repr__(self):
        return repr(np.asarray(self))


def array_masks(leaves):
    """{place: mask} of the arrays that have one."""
    found = ((i, x.mask) for i, x in enumerate(leaves) if isinstance(x, MaskedArray))
    return {i: mask for i, mask in found if mask is not None}


def with_masks(outputs, masks):
    """Nested arrays with their masks, from {place: mask}."""
    flat, structure = flatten(outputs)
    for i, mask in masks.items():
        if isinstance(flat[i], np.ndarray):
            flat[i] = flat[i].view(MaskedArray)
            flat[i].mask = mask
    return unflatten(structure, flat)


def mask_of(x):
    """The mask of a tensor, or None."""
    return getattr(x, "mask", None)


def masks_of(inputs):
    """The masks of nested tensors, nested alike; None where there is none at all."""
    leaves = spec.leaves(inputs)
    if all(mask_of(x) is None for x in leaves):
        return None
    return spec.map_leaves(mask_of, inputs)


def hand_on(layer, inputs, masks, outputs):
    """Give `outputs` of `layer` the masks that follow from those of its inputs."""
    if layer.supports_masking:
        computed = spec.leaves(layer.compute_mask(inputs, masks))
        for y, mask in zip(spec.leaves(outputs), computed, strict=False):
            if mask is not None and mask_of(y) is None:
                y.mask = mask
    elif masks is not None and layer.supports_masking is not None and not layer._lost_mask:
        layer._lost_mask = True  # said once
        warnings.warn(
            f"{layer.name}: expected input without a mask, got one; the layer does not support"
            " masking, and what follows does not see the mask",
            stacklevel=4,
        )


def merged(masks, join):
    """The masks of several inputs joined, None where one of them has none."""
    if masks is None or any(m is None for m in masks):
        return None
    result = masks[0]
    for mask in masks[1:]:
        result = join(result, mask)
    return result
