"""Houses around Boston in 1978: 506 places with 13 features each, and the median value of a house
(Harrison and Rubinfeld 1978). One feature supposes that people's origin makes prices: for
comparing with older figures only; `california_housing` is the better example."""

from dlcore import lookup

FILE = "boston_housing.npz"
SHA256 = "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"


@lookup.checked
def load_data(path=FILE, test_split=0.2, seed=113):
    """Load the places, downloading them to `$DLCORE_DATA` (or `~/.dlcore`) at the first call.

    Parameters
    ----------
    path, test_split, seed
        As for `california_housing.load_data`.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x: (N, 13); y: (N,), in thousands of dollars.

    Raises
    ------
    FileNotFoundError
        The file is neither there nor to be had.
    """
    from dlcore.data import published

    return published.split(
        "boston_housing", *published.shuffled(path, FILE, SHA256, seed), test_split
    )
