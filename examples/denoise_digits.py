"""A convolutional autoencoder that removes noise from handwritten digits.

python examples/denoise_digits.py            # MNIST, from $DLCORE_DATA/mnist or downloaded
python examples/denoise_digits.py --quick    # the small digits of the package

Noisy digits go in, clean ones are the target: half as many pixels a side, and half again, must
carry what a digit is. Writes a picture of some digits, noisy and cleaned, where Pillow is there.
"""

import sys
import time

import numpy as np

import dlcore as keras
from dlcore import layers

QUICK = "--quick" in sys.argv
EPOCHS = 15 if QUICK else 8
NOISE = 0.4  # standard deviation, of values in 0..1
GOAL = 0.7 if QUICK else 0.4  # share of the error that may be left

keras.utils.set_random_seed(1)


def load():
    """Digits (n, H, W, 1) with values in 0..1 for training and test."""
    parts = None
    if not QUICK:
        try:
            parts = keras.datasets.mnist.load_data()
        except FileNotFoundError as error:
            print(f"{error}; taking the digits of the package")
    (x, _), (u, _) = parts or keras.datasets.digits.load_data()
    return [part[..., None].astype("float32") / x.max() for part in (x, u)]


def noisy(x, seed):
    noise = np.random.default_rng(seed).normal(0, NOISE, x.shape)
    return np.clip(x + noise, 0, 1).astype("float32")


x_train, x_test = load()
inputs = layers.Input(x_train.shape[1:])
x = layers.Conv2D(32, 3, activation="relu", padding="same")(inputs)
x = layers.MaxPooling2D()(x)
x = layers.Conv2D(32, 3, activation="relu", padding="same")(x)
code = layers.MaxPooling2D()(x)
x = layers.Conv2DTranspose(32, 3, 2, activation="relu", padding="same")(code)
x = layers.Conv2DTranspose(32, 3, 2, activation="relu", padding="same")(x)
model = keras.Model(inputs, layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x))
model.summary()
model.compile(keras.optimizers.Adam(3e-3 if QUICK else 1e-3), "binary_crossentropy")

start = time.perf_counter()
model.fit(noisy(x_train, 1), x_train, 128, EPOCHS, validation_data=(noisy(x_test, 2), x_test))
seconds = time.perf_counter() - start

given = noisy(x_test, 2)
cleaned = model.predict(given)
before, after = (float(np.mean((x - x_test) ** 2)) for x in (given, cleaned))
print(
    f"mean squared error {before:.4f} of the noisy digits, {after:.4f} of the cleaned ones;"
    f" trained in {seconds:.1f} s"
)
rows = [np.concatenate(list(x[:12]), axis=1) for x in (x_test, given, cleaned)]
try:
    keras.utils.save_img("denoised.png", np.concatenate(rows, axis=0))
except ImportError:
    print("no picture: Pillow is not installed")
if not after < GOAL * before:
    sys.exit(f"expected less than {GOAL} of the error to be left, got {after / before:.2f}")
