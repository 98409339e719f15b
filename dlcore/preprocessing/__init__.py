"""Older places of helpers, as in `keras.preprocessing`: they live in `dlcore.utils` and
`dlcore.data`."""

from dlcore.preprocessing import image, sequence, text

__all__ = ["image", "sequence", "text"]
