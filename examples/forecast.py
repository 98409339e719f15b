"""The next month of a time series, forecast by recurrent layers and by causal convolutions.

python examples/forecast.py              # sunspots since 1749, from $DLCORE_DATA/timeseries
python examples/forecast.py --quick      # fewer epochs

Without the data a made-up series serves: a cycle of changing height, with noise. Each network sees
four years and names the month that follows; what must be beaten is "as this month". Writes a
picture of the last years, forecast.svg.
"""

import csv
import os
import sys
import time

import numpy as np

import dlcore as keras
from dlcore import layers
from dlcore.utils.svg import Drawing, ticks

QUICK = "--quick" in sys.argv
EPOCHS = 5 if QUICK else 30
LENGTH = 48  # months that a network sees
SHOWN = 144  # months in the picture
COLORS = ("#888888", "#1f77b4", "#d62728", "#2ca02c", "#ff7f0e")


def load():
    """Values (months,)."""
    path = os.path.join(os.environ.get("DLCORE_DATA", ""), "timeseries", "monthly-sunspots.csv")
    if os.path.exists(path):
        with open(path, newline="") as file:
            return np.array([float(row["Sunspots"]) for row in csv.DictReader(file)])
    rng, t = np.random.default_rng(0), np.arange(2400)
    height = 60 + 30 * np.sin(t / 170)
    return height * (1 + np.sin(2 * np.pi * t / 132)) + rng.normal(0, 12, len(t))


def windows(part, shuffle=False):
    """Batches of LENGTH months (batch, LENGTH, 1) and the month after each (batch, 1)."""
    return keras.utils.timeseries_dataset_from_array(
        part[:, None], part[LENGTH:, None], LENGTH, batch_size=32, shuffle=shuffle, seed=1
    )


def causal_convolutions():
    """Every output sees twice as many months as one of the layer before, and none that follow."""
    stack = [
        layers.Conv1D(24, 2, padding="causal", dilation_rate=d, activation="relu")
        for d in (1, 2, 4, 8, 16)
    ]
    return [*stack, layers.Cropping1D((LENGTH - 1, 0)), layers.Flatten()]


NETWORKS = {
    "SimpleRNN": lambda: [layers.SimpleRNN(32)],
    "GRU": lambda: [layers.GRU(32)],
    "LSTM": lambda: [layers.LSTM(32)],
    "Conv1D": causal_convolutions,
}


def forecast(name, train, test):
    """(forecasts of the months of `test`, number of weights, seconds of training)"""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([layers.Input((LENGTH, 1)), *NETWORKS[name](), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(2e-3, clipnorm=1.0), "mse")
    start = time.perf_counter()
    model.fit(windows(train, shuffle=True), epochs=EPOCHS, verbose=0)
    seconds = time.perf_counter() - start
    return model.predict(windows(test), verbose=0)[:, 0], model.count_params(), seconds


def draw(truth, forecasts, path):
    """The last months of the truth and of every forecast."""
    drawing, width, height, left, bottom = Drawing(900, 360), 820, 300, 60, 330
    curves = {"truth": truth, **forecasts}
    marks = ticks(min(map(np.min, curves.values())), max(map(np.max, curves.values())))

    def y(value):
        return bottom - height * (value - marks[0]) / (marks[-1] - marks[0])

    for mark in marks:
        drawing.lines([(left, y(mark)), (left + width, y(mark))], "#dddddd")
        drawing.text(left - 6, y(mark) + 4, f"{mark:g}", "end", 11)
    for i, ((name, values), color) in enumerate(zip(curves.items(), COLORS, strict=True)):
        points = [(left + width * t / (SHOWN - 1), y(v)) for t, v in enumerate(values)]
        drawing.lines(points, color, 3 if name == "truth" else 1)
        drawing.text(left + 110 * i, 350, name, size=12, color=color)
    drawing.save(path)


series = load()
cut = int(0.8 * len(series))
mean, deviation = series[:cut].mean(), series[:cut].std()
train, test = (series[:cut] - mean) / deviation, (series[cut - LENGTH :] - mean) / deviation
truth = series[cut:]
naive = np.sqrt(np.mean((series[cut - 1 : -1] - truth) ** 2))
print(f"{'':12}{'weights':>10}{'seconds':>10}{'error':>10}")
print(f"{'as before':12}{'':10}{'':10}{naive:10.2f}")
forecasts, errors = {}, {}
for name in NETWORKS:
    scaled, weights, seconds = forecast(name, train, test)
    values = scaled * deviation + mean
    errors[name] = np.sqrt(np.mean((values - truth) ** 2))
    forecasts[name] = values[-SHOWN:]
    print(f"{name:12}{weights:10}{seconds:10.1f}{errors[name]:10.2f}")
draw(truth[-SHOWN:], forecasts, "forecast.svg")
if min(errors.values()) > naive:
    sys.exit(f"expected an error below {naive:.2f}, got {min(errors.values()):.2f}")
