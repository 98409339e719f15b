"""1,797 handwritten digits of 8 x 8 pixels, part of the package.

Source: UCI, E. Alpaydin and C. Kaynak 1998, https://doi.org/10.24432/C50P49, CC BY 4.0.
"""

import os

import numpy as np

from dlcore import data


def load_data():
    """Load the digits in a fixed split: of every digit, each fifth image is for the test.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x uint8 (n, 8, 8) with values 0 .. 16 and y uint8 (n,); 1,442 and 355 rows.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, x_test.shape, int(x_train.max())
    ((1442, 8, 8), (355, 8, 8), 16)
    """
    with np.load(os.path.join(os.path.dirname(data.__file__), "digits.npz")) as file:
        x, y = file["x"], file["y"]
    test = np.zeros(len(y), bool)
    for digit in range(10):
        test[np.flatnonzero(y == digit)[4::5]] = True
    return (x[~test], y[~test]), (x[test], y[test])
