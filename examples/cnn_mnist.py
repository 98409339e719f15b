"""A convolutional network on MNIST, written as for Keras 3: 99.1 % and more of the test digits
within twelve epochs, and the time it takes to reach 99.0 %.

python examples/cnn_mnist.py            # MNIST, from $DLCORE_DATA/mnist or downloaded
python examples/cnn_mnist.py --epochs 5 # 98.8 % in less than half the time
python examples/cnn_mnist.py --quick    # the small digits of the package, a few epochs
"""

import sys
import time

import dlcore as keras
from dlcore import layers

QUICK = "--quick" in sys.argv
EPOCHS = int(sys.argv[-1]) if "--epochs" in sys.argv else 4 if QUICK else 12
BATCH = 128
GOAL = 0.990

keras.utils.set_random_seed(1)


def load():
    """MNIST, or the digits of the package where it is not to be had, with values in 0..1."""
    if not QUICK:
        try:
            return keras.datasets.mnist.load_data()
        except FileNotFoundError as error:
            print(f"{error}; taking the digits of the package")
    return keras.datasets.digits.load_data()


class Clock(keras.callbacks.Callback):
    """Notes when the test accuracy first reaches the goal."""

    def on_train_begin(self, logs=None):
        self.start, self.reached = time.perf_counter(), None

    def on_epoch_end(self, epoch, logs=None):
        if self.reached is None and logs["val_accuracy"] >= GOAL:
            self.reached = time.perf_counter() - self.start


(x_train, y_train), (x_test, y_test) = load()
most = float(x_train.max())
x_train, x_test = x_train[..., None], x_test[..., None]

model = keras.Sequential(
    [
        layers.Input(x_train.shape[1:]),
        layers.Rescaling(1 / most),
        layers.Conv2D(32, 3, activation="relu", padding="same" if QUICK else "valid"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu", padding="same" if QUICK else "valid"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
)
model.summary()
steps = EPOCHS * -(-len(x_train) // BATCH)
rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])

clock = Clock()
start = time.perf_counter()
model.fit(
    x_train, y_train, BATCH, EPOCHS, validation_data=(x_test, y_test), callbacks=[clock],
    validation_batch_size=500,
)  # fmt: skip
seconds = time.perf_counter() - start

loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
reached = "not reached" if clock.reached is None else f"reached after {clock.reached:.1f} s"
print(f"{100 * GOAL:.1f} % {reached}")
print(f"test accuracy {100 * accuracy:.2f} %, loss {loss:.4f}; trained in {seconds:.1f} s")
