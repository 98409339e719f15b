"""Houses in California: 20,640 districts with 8 features each, and the median value of a house
(Pace and Barry 1997)."""

from dlcore import lookup

FILE = "california_housing.npz"
SHA256 = "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f"


@lookup.checked
def load_data(version="large", path=FILE, test_split=0.2, seed=113):
    """Load the districts, downloading them to `$DLCORE_DATA` (or `~/.dlcore`) at the first call.

    Parameters
    ----------
    version : {"large", "small"}
        All, or 600 of them.
    path : path-like
        The file, in the folder of data sets.
    test_split : float, 0 <= test_split < 1, default 0.2
        Share of the rows that test.
    seed : int, default 113
        Of the order.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x: (N, 8), median income, age, rooms, bedrooms, people, people in a household, latitude
        and longitude; y: (N,), in dollars.

    Raises
    ------
    FileNotFoundError
        The file is neither there nor to be had.
    """
    from dlcore.data import published

    if version not in ("large", "small"):
        raise ValueError(
            f"california_housing: expected version 'large' or 'small', got {version!r}"
        )
    rows = 600 if version == "small" else None
    x, y = published.shuffled(path, FILE, SHA256, seed, rows=rows)
    return published.split("california_housing", x, y, test_split)
