"""An MLP on MNIST, written as for Keras 3: 98.3 % and more of the test digits within ten epochs.

python examples/mlp_mnist.py            # MNIST, from $DLCORE_DATA/mnist or downloaded
python examples/mlp_mnist.py --quick    # the small digits of the package, a few epochs
"""

import sys
import time

import dlcore as keras
from dlcore import layers

QUICK = "--quick" in sys.argv
EPOCHS = 3 if QUICK else 10

keras.utils.set_random_seed(1)

try:
    data = keras.datasets.digits if QUICK else keras.datasets.mnist
    (x_train, y_train), (x_test, y_test) = data.load_data()
except FileNotFoundError as error:
    sys.exit(
        f"{error}\nPut the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
        "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz into $DLCORE_DATA/mnist."
    )
x_train = x_train.astype("float32") / x_train.max()
x_test = x_test.astype("float32") / x_test.max()

model = keras.Sequential(
    [
        layers.Input(x_train.shape[1:]),
        layers.Flatten(),
        layers.Dense(512, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(512, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(10, activation="softmax"),
    ]
)
model.summary()

steps = EPOCHS * -(-len(x_train) // 128)
model.compile(
    optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)

start = time.perf_counter()
model.fit(x_train, y_train, batch_size=128, epochs=EPOCHS, validation_data=(x_test, y_test))
seconds = time.perf_counter() - start

loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {100 * accuracy:.2f} %, loss {loss:.4f}; trained in {seconds:.1f} s")
