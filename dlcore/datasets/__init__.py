"""Data sets in the form of `keras.datasets`: `mnist.load_data()`, and two-dimensional toy sets."""

from dlcore.data.toy import blobs, circles, spiral, xor
from dlcore.datasets import (
    boston_housing,
    california_housing,
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    imdb,
    mnist,
    reuters,
)

__all__ = [
    "blobs", "boston_housing", "california_housing", "cifar10", "cifar100", "circles", "digits",
    "fashion_mnist", "imdb", "mnist", "reuters", "spiral", "xor",
]  # fmt: skip
