"""Regression: the median price of houses in a district, from eight numbers about it.

With $DLCORE_DATA/california_housing/housing.csv these are the districts of California in 1990
(Pace and Barry 1997); without it, made-up districts whose price follows a known formula.

    python examples/houses.py [--quick]
"""

import csv
import os
import sys

import numpy as np

import dlcore as keras
from dlcore import layers
from dlcore.data import train_test_split

QUICK = "--quick" in sys.argv
NUMBERS = (
    "longitude", "latitude", "housing_median_age", "total_rooms", "total_bedrooms", "population",
    "households", "median_income",
)  # fmt: skip


def california(path):
    """Features (n, 8) and prices (n, 1) in 100,000 dollars; blanks become the median."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    x = np.array([[float(row[name] or "nan") for name in NUMBERS] for row in rows])
    x = np.where(np.isnan(x), np.nanmedian(x, axis=0), x)
    x[:, 3:7] = np.log(x[:, 3:7])  # counts spread over several powers of ten
    y = np.array([[float(row["median_house_value"])] for row in rows]) / 100_000
    return x, y


def made_up(n=4000):
    """Features (n, 8) and prices (n, 1): a formula with noise of standard deviation 0.1."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 8))
    y = 2 + x[:, 7] + 0.5 * np.sin(2 * x[:, 0]) * x[:, 1] + 0.1 * rng.standard_normal(n)
    return x, y[:, None]


keras.utils.set_random_seed(0)
path = os.path.join(os.environ.get("DLCORE_DATA", ""), "california_housing", "housing.csv")
x, y = california(path) if os.path.exists(path) else made_up()
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, seed=0)
mean, deviation = x_train.mean(0), x_train.std(0)
x_train, x_test = (x_train - mean) / deviation, (x_test - mean) / deviation

model = keras.Sequential(
    [
        layers.Input((8,)),
        layers.Dense(64, activation="relu"),
        layers.Dense(64, activation="relu"),
        layers.Dense(1),
    ]
)
model.compile(keras.optimizers.Adam(1e-3), loss="mse", metrics=["mae"])
model.fit(
    x_train,
    y_train,
    batch_size=16,
    epochs=3 if QUICK else 50,
    validation_split=0.1,
    callbacks=[keras.callbacks.EarlyStopping(patience=8, restore_best_weights=True)],
    verbose=2,
)

_, error = model.evaluate(x_test, y_test, verbose=0)
simple = np.abs(y_test - np.median(y_train)).mean()
print(f"mean error {error:.3f} (100,000 dollars); always naming the median: {simple:.3f}")
