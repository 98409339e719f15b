"""A small GPT, or an LSTM, that learns to write like Shakespeare, character by character.

python examples/char_writer.py                   # $DLCORE_DATA/tinyshakespeare/input.txt
python examples/char_writer.py --model lstm --minutes 10
python examples/char_writer.py --text FILE
python examples/char_writer.py --quick           # a sonnet that comes with the example, by both
"""

import argparse
import math
import os
import sys
import time

import numpy as np

import dlcore as keras
from dlcore import layers

SONNET = """Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance or nature's changing course untrimm'd;
But thy eternal summer shall not fade
Nor lose possession of that fair thou owest;
Nor shall Death brag thou wander'st in his shade,
When in eternal lines to time thou growest:
So long as men can breathe or eyes can see,
So long lives this and this gives life to thee.
"""

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", choices=("gpt", "lstm"), default="gpt")
parser.add_argument("--text", help="a text file instead of Shakespeare")
parser.add_argument("--minutes", type=float, default=5, help="how long to train (default 5)")
parser.add_argument("--quick", action="store_true", help="a sonnet, a small model, seconds")
args = parser.parse_args()

if args.quick:
    text, LENGTH, WIDTH, LAYERS, MINUTES = SONNET * 8, 32, 32, 2, 0.05
else:
    home = os.environ.get("DLCORE_DATA") or os.path.expanduser("~/.dlcore")
    path = args.text or os.path.join(home, "tinyshakespeare", "input.txt")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        sys.exit(f"char_writer: expected a text in {path}; name one with --text, or try --quick")
    LENGTH, WIDTH, LAYERS, MINUTES = 128, 128, 4, args.minutes

keras.utils.set_random_seed(1)
characters = sorted(set(text))
number = {c: i for i, c in enumerate(characters)}
data = np.array([number[c] for c in text], "int32")


def windows(part, stride):
    """x: runs of characters, y: the characters that follow each of them."""
    starts = np.arange(0, len(part) - LENGTH, stride)[:, None] + np.arange(LENGTH)
    return part[starts], part[starts + 1]


cut = int(0.9 * len(data))
x, y = windows(data[:cut], LENGTH // 4)
x_test, y_test = windows(data[cut:], LENGTH)


def gpt():
    """Logits (n, LENGTH, characters) of the character after each of (n, LENGTH)."""
    inputs = layers.Input((LENGTH,), dtype="int32")
    h = layers.TokenAndPositionEmbedding(len(characters), LENGTH, WIDTH)(inputs)
    for _ in range(LAYERS):
        block = layers.TransformerDecoder(
            4 * WIDTH, num_heads=4, activation="gelu", normalize_first=True
        )
        h = block(h)
    h = layers.LayerNormalization()(h)
    return keras.Model(inputs, layers.Dense(len(characters))(h))


def lstm(batch=None, steps=LENGTH):
    """The same by two LSTMs; with a `batch` they remember what they have read."""
    remember = {"return_sequences": True, "stateful": batch is not None}
    return keras.Sequential(
        [
            layers.Input(batch_shape=(batch, steps), dtype="int32"),
            layers.Embedding(len(characters), WIDTH),
            layers.LSTM(2 * WIDTH, **remember),
            layers.LSTM(2 * WIDTH, **remember),
            layers.Dense(len(characters)),
        ]
    )


class Clock(keras.callbacks.Callback):
    """Ends training when the time is over."""

    def on_train_begin(self, logs=None):
        self.end = time.monotonic() + 60 * MINUTES

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() > self.end:
            self.model.stop_training = True


def train(model):
    model.summary()
    rate = 3e-3 if args.quick else 1e-3
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    start = time.perf_counter()
    model.fit(x, y, batch_size=32, epochs=1000, callbacks=[Clock()], verbose=2)
    seconds = time.perf_counter() - start
    bits = model.evaluate(x_test, y_test, verbose=0) / math.log(2)
    print(f"{bits:.3f} bits per character on the last tenth of the text, after {seconds:.0f} s")


def window_reader(model):
    """A function of the characters so far that gives the logits of the next: reads the last
    LENGTH of them."""

    def read(written):
        last = written[-LENGTH:]
        row = np.zeros((1, LENGTH), "int32")
        row[0, : len(last)] = last
        return model.predict(row, verbose=0)[0, len(last) - 1]

    return read


def step_reader(model):
    """The same with memory: every character is read once."""
    stepper, seen = lstm(batch=1, steps=1), 0
    stepper.set_weights(model.get_weights())

    def read(written):
        nonlocal seen
        new, seen = written[seen:], len(written)
        return [stepper.predict_on_batch(np.array([[i]], "int32")) for i in new][-1][0, 0]

    return read


def write(read, start, length, temperature=0.8, seed=0):
    """`start` and `length` more characters."""
    rng = np.random.default_rng(seed)
    written = [number[c] for c in start if c in number]
    for _ in range(length):
        logits = read(written).astype("float64") / temperature
        p = np.exp(logits - logits.max())
        written.append(int(rng.choice(len(p), p=p / p.sum())))
    return "".join(characters[i] for i in written)


for kind in ("gpt", "lstm") if args.quick else (args.model,):
    make, reader = {"gpt": (gpt, window_reader), "lstm": (lstm, step_reader)}[kind]
    model = make()
    train(model)
    print(write(reader(model), "So ", 100 if args.quick else 500))
