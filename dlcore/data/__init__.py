"""Data sets and what is done to data before training.

`digits.npz` holds the test set of UCI's "Optical Recognition of Handwritten Digits" (E. Alpaydin
and C. Kaynak, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0): x uint8 (1797, 8, 8) with values
0 .. 16, y uint8 (1797).
"""

from dlcore.data.batches import PyDataset
from dlcore.data.loader import DataLoader
from dlcore.data.splitting import one_hot, split, train_test_split
from dlcore.data.toy import blobs, circles, spiral, xor

__all__ = [
    "DataLoader", "PyDataset", "blobs", "circles", "one_hot", "spiral", "split",
    "train_test_split", "xor",
]  # fmt: skip
