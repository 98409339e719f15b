"""Sequences of different lengths."""

from dlcore.data.sequences import pad_sequences

__all__ = ["pad_sequences"]
