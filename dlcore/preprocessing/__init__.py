"""Older places of helpers, as in `keras.preprocessing`: they live in `dlcore.utils` and
`dlcore.data`."""

from dlcore.data.images import image_dataset_from_directory
from dlcore.data.sequences import timeseries_dataset_from_array
from dlcore.data.text import text_dataset_from_directory
from dlcore.preprocessing import image, sequence, text

__all__ = [
    "image", "image_dataset_from_directory", "sequence", "text", "text_dataset_from_directory",
    "timeseries_dataset_from_array",
]  # fmt: skip
