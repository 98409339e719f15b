"""The four toy sets: a linear model learns one of them, a network with hidden units all four.

python examples/toy2d.py [--quick]
"""

import sys

import dlcore as keras
from dlcore import layers
from dlcore.data import blobs, circles, spiral, train_test_split, xor

EPOCHS = 5 if "--quick" in sys.argv else 60


def accuracy(x, y, hidden):
    """Test accuracy of an MLP with `hidden` layers of 32 units."""
    keras.utils.set_random_seed(0)
    x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, seed=0)
    model = keras.Sequential([layers.Input((2,))])
    for _ in range(hidden):
        model.add(layers.Dense(32, activation="tanh"))
    model.add(layers.Dense(int(y.max()) + 1, activation="softmax"))
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=EPOCHS, verbose=0)
    return model.evaluate(x_test, y_test, verbose=0)[1]


print(f"{'':10}{'linear':>10}{'1 hidden':>10}{'2 hidden':>10}")
for make in (blobs, circles, xor, spiral):
    x, y = make(2000, seed=1)
    print(f"{make.__name__:10}" + "".join(f"{accuracy(x, y, n):10.3f}" for n in (0, 1, 2)))
