"""Good or bad? Reviews of films, read by a bidirectional LSTM, or by the mean of word vectors.

python examples/imdb_reviews.py                  # IMDB, from $DLCORE_DATA/imdb or downloaded
python examples/imdb_reviews.py --model mean     # seconds instead of minutes
python examples/imdb_reviews.py --quick          # made-up reviews
"""

import argparse
import sys
import time

import numpy as np

import dlcore as keras
from dlcore import layers

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", choices=("lstm", "bidirectional", "mean"), default="bidirectional")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--quick", action="store_true", help="made-up reviews, a small model")
args = parser.parse_args()

WORDS, LENGTH, WIDTH, UNITS = (30, 12, 16, 16) if args.quick else (20000, 200, 64, 64)
keras.utils.set_random_seed(1)


def made_up(count, seed):
    """Reviews that are good where more words from 4..11 than from 12..19 are in them."""
    rng = np.random.default_rng(seed)
    x = np.empty(count, object)
    x[:] = [list(rng.integers(4, WORDS, rng.integers(4, LENGTH))) for _ in range(count)]
    score = [sum(4 <= w < 12 for w in r) - sum(12 <= w < 20 for w in r) for r in x]
    return x, np.array(score) > 0


try:
    if args.quick:
        (x_train, y_train), (x_test, y_test) = made_up(1500, 1), made_up(300, 2)
    else:
        (x_train, y_train), (x_test, y_test) = keras.datasets.imdb.load_data(num_words=WORDS)
except FileNotFoundError as error:
    sys.exit(str(error))
x_train = keras.utils.pad_sequences(x_train, maxlen=LENGTH)
x_test = keras.utils.pad_sequences(x_test, maxlen=LENGTH)

reader = {
    "lstm": [layers.LSTM(UNITS)],
    "bidirectional": [layers.Bidirectional(layers.LSTM(UNITS))],
    "mean": [layers.GlobalAveragePooling1D()],
}[args.model]
model = keras.Sequential(
    [
        layers.Input((LENGTH,), dtype="int32"),
        layers.Embedding(WORDS, WIDTH, mask_zero=True),
        layers.SpatialDropout1D(0.0 if args.quick else 0.4),
        *reader,
        layers.Dropout(0.5),
        layers.Dense(1, activation="sigmoid"),
    ]
)
model.summary()
model.compile(
    keras.optimizers.Adam(0.01 if args.quick else 0.001),
    "binary_crossentropy",
    metrics=["accuracy"],
)

# From the third epoch on words are learnt by heart: a quarter of the rate then evens out the last
# steps, so that the accuracy depends little on the seed.
slower = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.001 if epoch < 2 else 0.00025)

start = time.perf_counter()
model.fit(
    x_train,
    y_train,
    batch_size=32,
    epochs=15 if args.quick else args.epochs,
    validation_data=(x_test, y_test),
    callbacks=[] if args.quick else [slower],
    verbose=2,
)
seconds = time.perf_counter() - start
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {100 * accuracy:.2f} %, loss {loss:.4f}; trained in {seconds:.1f} s")
