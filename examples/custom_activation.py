"""An activation of one's own: only the formula is written; gradient and fusion follow from it.

x + sin(x)^2 is compared with relu on the spiral, and its gradient with finite
differences.

    python examples/custom_activation.py [--quick]
"""

import sys

import numpy as np

import dlcore as keras
from dlcore import layers, ops
from dlcore.data import spiral, train_test_split

EPOCHS = 5 if "--quick" in sys.argv else 40


def snake(x):
    """x + sin(x)^2 (Ziyin, Hartwig and Ueda 2020)."""
    return x + ops.square(ops.sin(x))


gradient = keras.grad(lambda x: ops.sum(snake(x)))
x = np.linspace(-3, 3, 7).astype("float32")
difference = (snake(x + 1e-2) - snake(x - 1e-2)) / 2e-2
print("gradient          ", np.round(gradient(x), 3))
print("finite differences", np.round(difference, 3))

x, y = spiral(2000, seed=0)
x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, seed=0)
for activation in ("relu", snake):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((2,)),
            layers.Dense(32, activation=activation),
            layers.Dense(32, activation=activation),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=EPOCHS, verbose=0)
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    print(f"{activation if isinstance(activation, str) else 'snake':6} {100 * accuracy:.1f} %")
