"""ResNet-20 on CIFAR-10 images, mirrored and shifted at random inside the program.

He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

python examples/resnet_cifar10.py            # CIFAR-10, from $DLCORE_DATA or downloaded (170 MB)
python examples/resnet_cifar10.py --quick    # few images, two epochs

Where CIFAR-10 is not to be had, the first 4,000 images of it serve (cifar10_first4000 in
$DLCORE_DATA), else the small digits of the package.
"""

import sys
import time

import numpy as np

import dlcore as keras
from dlcore import layers

QUICK = "--quick" in sys.argv
EPOCHS = 2 if QUICK else 20
BATCH = 64
BLOCKS = 3  # in each of three stages: 6 BLOCKS + 2 layers with weights

keras.utils.set_random_seed(1)


def load():
    """(name, images, ...): color images of any size with values 0..255."""
    cifar10, digits = keras.datasets.cifar10, keras.datasets.digits
    if not QUICK:
        try:
            return "CIFAR-10", *cifar10.load_data()
        except FileNotFoundError as error:
            print(error)
    try:
        (x, y), test = cifar10.load_subset()
        most = 1000 if QUICK else len(x)
        return f"{most} images of CIFAR-10", (x[:most], y[:most]), test
    except FileNotFoundError:
        (x, y), (u, v) = digits.load_data()
        x, u = (np.repeat(images[..., None], 3, axis=3) * 15 for images in (x, u))
        return "the digits of the package", (x, y[:, None]), (u, v[:, None])


def block(x, filters, stride):
    """Two convolutions beside a shortcut: what they add to x is learned."""
    y = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization()(y)
    y = layers.Activation("relu")(y)
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
    y = layers.BatchNormalization()(y)
    if x.shape != y.shape:
        x = layers.Conv2D(filters, 1, stride, use_bias=False)(x)
        x = layers.BatchNormalization()(x)
    return layers.Activation("relu")(layers.Add()([x, y]))


def resnet(shape, classes):
    inputs = layers.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.RandomFlip("horizontal")(x)
    x = layers.RandomTranslation(0.125, 0.125, "constant", "nearest")(x)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    for stage, filters in enumerate((16, 32, 64)):
        for i in range(BLOCKS):
            x = block(x, filters, 2 if stage > 0 and i == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


name, (x_train, y_train), (x_test, y_test) = load()
print(f"training on {name}: {len(x_train)} images {x_train.shape[1:]}")
model = resnet(x_train.shape[1:], 10)
print(f"{model.count_params():,} parameters")

steps = EPOCHS * -(-len(x_train) // BATCH)
rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4)
model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
start = time.perf_counter()
history = model.fit(x_train, y_train, BATCH, EPOCHS, validation_data=(x_test, y_test)).history
seconds = time.perf_counter() - start

first, last = history["loss"][0], history["loss"][-1]
accuracy = history["val_accuracy"][-1]
print(
    f"training loss {first:.3f} -> {last:.3f}, test accuracy {100 * accuracy:.2f} %;"
    f" trained in {seconds:.1f} s"
)
chance = float(np.log(10))  # the loss of a guess
if not last < (0.95 if QUICK else 0.6) * chance:
    sys.exit(f"expected a training loss well below that of guessing ({chance:.3f}), got {last:.3f}")
