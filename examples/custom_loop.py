"""A training loop of one's own: parameters are arrays, gradients come from `value_and_grad`.

python examples/custom_loop.py [--quick]
"""

import sys

import numpy as np

import dlcore
from dlcore import ops

EPOCHS = 5 if "--quick" in sys.argv else 30
BATCH, RATE, MOMENTUM = 32, 0.1, 0.9

(x_train, y_train), (x_test, y_test) = dlcore.datasets.digits.load_data()
x_train, x_test = (a.reshape(-1, 64).astype("float32") / 16 for a in (x_train, x_test))


def forward(weights, x):
    w1, b1, w2, b2 = weights
    return ops.relu(x @ w1 + b1) @ w2 + b2


def loss(weights, x, y):
    return ops.mean(ops.sparse_softmax_cross_entropy(forward(weights, x), y))


step = dlcore.value_and_grad(loss)  # compiled at the first call with these shapes
logits = dlcore.function(forward)

rng = np.random.default_rng(0)
weights = [
    rng.normal(0, np.sqrt(2 / 64), (64, 100)).astype("float32"),
    np.zeros(100, "float32"),
    rng.normal(0, np.sqrt(2 / 100), (100, 10)).astype("float32"),
    np.zeros(10, "float32"),
]
velocity = [np.zeros_like(w) for w in weights]

for epoch in range(EPOCHS):
    order, total = rng.permutation(len(x_train)), 0.0
    batches = order[: len(order) // BATCH * BATCH].reshape(-1, BATCH)
    for rows in batches:
        value, gradients = step(weights, x_train[rows], y_train[rows])
        total += float(value)
        for w, v, g in zip(weights, velocity, gradients, strict=True):
            v *= MOMENTUM
            v -= RATE * g
            w += v
    accuracy = np.mean(np.argmax(logits(weights, x_test), axis=1) == y_test)
    print(f"epoch {epoch + 1}: loss {total / len(batches):.4f}, test {100 * accuracy:.1f} %")
