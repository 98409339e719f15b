"""Sums as text: one LSTM reads "94+8", another writes "102".

python examples/addition.py              # numbers of up to three digits, a few minutes
python examples/addition.py --quick      # of up to two, seconds

The encoder's last states are all that the decoder knows of the question. While training, the
decoder is given the right answer up to the character before; afterwards it reads what it has
written itself, one step at a time (Sutskever et al. 2014, https://arxiv.org/abs/1409.3215).
Questions are read backwards, so that the digits that are needed first were seen last.
"""

import sys
import time

import numpy as np

import dlcore as keras
from dlcore import layers

QUICK = "--quick" in sys.argv
DIGITS, UNITS, SAMPLES, EPOCHS = (2, 64, 20_000, 15) if QUICK else (3, 256, 60_000, 30)
CHARACTERS = " 0123456789+^"  # ^ starts an answer
NUMBER = {c: i for i, c in enumerate(CHARACTERS)}
ASK, ANSWER = 2 * DIGITS + 1, DIGITS + 1  # lengths

keras.utils.set_random_seed(1)


def encode(text, length):
    return [NUMBER[c] for c in text.ljust(length)]


def samples():
    """Different questions, read backwards, (n, ASK) and answers (n, ANSWER)."""
    rng = np.random.default_rng(1)
    pairs = np.unique(rng.integers(0, 10**DIGITS, (SAMPLES, 2)), axis=0)
    rng.shuffle(pairs)
    questions = [encode(f"{a}+{b}"[::-1], ASK) for a, b in pairs]
    answers = [encode(str(a + b), ANSWER) for a, b in pairs]
    return np.array(questions, "int32"), np.array(answers, "int32")


def after_start(y):
    """What the decoder reads: ^ and the answer without its last character."""
    return np.concatenate([np.full((len(y), 1), NUMBER["^"], "int32"), y[:, :-1]], axis=1)


question = layers.Input((ASK,), dtype="int32")
before = layers.Input((None,), dtype="int32")
read = layers.Embedding(len(CHARACTERS), 32)
encoder = layers.LSTM(UNITS, return_state=True)
decoder = layers.LSTM(UNITS, return_sequences=True, return_state=True)
name = layers.Dense(len(CHARACTERS), activation="softmax")

_, *states = encoder(read(question))
outputs, *_ = decoder(read(before), initial_state=states)
model = keras.Model([question, before], name(outputs))
model.summary()
model.compile(
    keras.optimizers.Adam(5e-3 if QUICK else 2e-3, clipnorm=1.0), "sparse_categorical_crossentropy"
)

# The same layers as two models, for answering.
reader = keras.Model(question, states)
h, c = layers.Input((UNITS,)), layers.Input((UNITS,))
outputs, *after = decoder(read(before), initial_state=[h, c])
writer = keras.Model([before, h, c], [name(outputs), *after])


def answer(x):
    """Answers (n, ANSWER) to questions (n, ASK), each character the most probable one."""
    states = reader.predict(x, batch_size=1024, verbose=0)
    last, written = np.full((len(x), 1), NUMBER["^"], "int32"), []
    for _ in range(ANSWER):
        p, *states = writer.predict([last, *states], batch_size=1024, verbose=0)
        last = p[:, -1:].argmax(axis=-1).astype("int32")
        written.append(last)
    return np.concatenate(written, axis=1)


def text(row):
    return "".join(CHARACTERS[i] for i in row).strip()


x, y = samples()
cut = int(0.9 * len(x))
start = time.perf_counter()
model.fit([x[:cut], after_start(y[:cut])], y[:cut], batch_size=64, epochs=EPOCHS, verbose=2)
seconds = time.perf_counter() - start
x_test, y_test = x[cut:], y[cut:]
written = answer(x_test)
right = (written == y_test).all(axis=1).mean()
for ask, got, expected in zip(x_test[:8], written, y_test, strict=False):
    wrong = "" if text(got) == text(expected) else f"   wrong: {text(expected)}"
    print(f"{text(ask)[::-1]} = {text(got)}{wrong}")
print(f"{100 * right:.1f} % of {len(x_test)} new sums right; trained in {seconds:.1f} s")
if right < 0.5:
    sys.exit(f"expected at least half of the sums to be right, got {100 * right:.1f} %")
