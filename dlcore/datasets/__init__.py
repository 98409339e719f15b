"""Data sets in the form of `keras.datasets`: `mnist.load_data()`, and two-dimensional toy sets."""

from dlcore.data.toy import blobs, circles, spiral, xor
from dlcore.datasets import cifar10, cifar100, digits, fashion_mnist, imdb, mnist

__all__ = [
    "blobs", "cifar10", "cifar100", "circles", "digits", "fashion_mnist", "imdb", "mnist",
    "spiral", "xor",
]  # fmt: skip
