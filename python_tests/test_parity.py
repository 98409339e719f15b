"""Weight for weight beside Keras and PyTorch where they are installed: outputs, and twenty steps of
training, in float64: another formula, epsilon or order of gates does not pass for rounding then."""

import numpy as np
import pytest

import dlcore
from dlcore import layers
from dlcore.io import weights_from_torch

ROWS, STEPS = 8, 20
RNG = np.random.default_rng(5)
IMAGES = RNG.normal(size=(ROWS * STEPS, 9, 8, 3))
SERIES = RNG.normal(size=(ROWS * STEPS, 7, 4))
TOKENS = RNG.integers(1, 12, (ROWS * STEPS, 7)) * (np.arange(7) < RNG.integers(1, 8, (160, 1)))
LABELS = RNG.integers(0, 3, ROWS * STEPS)
OUTPUTS, TRAINED = 1e-8, 1e-5  # Keras keeps learning rates in float32


def importable(name):
    """Keras only on TensorFlow or PyTorch: its other backends compute in float32 alone."""
    module = pytest.importorskip(name)
    if name == "keras" and module.backend.backend() not in ("tensorflow", "torch"):
        pytest.skip("another backend of Keras")
    return module


@pytest.fixture(autouse=True)
def wide():
    before = dlcore.config.floatx()
    dlcore.config.set_floatx("float64")
    yield
    dlcore.config.set_floatx(before)


def convnet(k):
    return [
        k.layers.Conv2D(6, 3, activation="relu"),
        k.layers.BatchNormalization(momentum=0.9),
        k.layers.MaxPooling2D(),
        k.layers.SeparableConv2D(8, 2, padding="same", activation="gelu"),
        k.layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
        k.layers.LayerNormalization(),
        k.layers.DepthwiseConv2D(3, strides=2),
        k.layers.GlobalAveragePooling2D(),
    ]


def dense(k):
    return [
        k.layers.Flatten(),
        k.layers.Dense(20, activation="tanh"),
        k.layers.Dense(9, activation="selu"),
    ]


def sequence(make):
    return lambda k: [k.layers.Embedding(12, 5, mask_zero=True), *make(k.layers)]


SEQUENTIAL = {
    "dense": (IMAGES, dense),
    "convnet": (IMAGES, convnet),
    "rnn": (TOKENS, sequence(lambda n: [n.SimpleRNN(6, return_sequences=True), n.SimpleRNN(4)])),
    "lstm": (TOKENS, sequence(lambda n: [n.LSTM(6, return_sequences=True), n.LSTM(4)])),
    "gru": (TOKENS, sequence(lambda n: [n.GRU(6, go_backwards=True)])),
    "gru_before": (TOKENS, sequence(lambda n: [n.GRU(6, reset_after=False)])),
    "bidirectional": (TOKENS, sequence(lambda n: [n.Bidirectional(n.GRU(4), merge_mode="ave")])),
    "gates": (
        SERIES,
        lambda k: [k.layers.LSTM(6, return_sequences=True), k.layers.GRU(5)],
    ),
    "causal": (
        SERIES,
        lambda k: [
            k.layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu"),
            k.layers.Conv1D(4, 2, strides=2),
            k.layers.GlobalMaxPooling1D(),
        ],
    ),
}
OPTIMIZERS = {
    "sgd": lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda k: k.optimizers.Adam(0.01, clipnorm=0.5),
    "rmsprop": lambda k: k.optimizers.RMSprop(0.002),
    "adamw": lambda k: k.optimizers.AdamW(0.01, weight_decay=0.01),
}


def stack(k, make, x):
    kind = "int32" if x.dtype.kind == "i" else None
    ends = [k.layers.Dense(3, activation="softmax")]
    return k.Sequential([k.layers.Input(x.shape[1:], dtype=kind), *make(k), *ends])


def transformer(k):
    """Two attentions over padded sequences, one of them causal, and a layer used twice."""
    x = k.layers.Input((7,), dtype="int32")
    h = k.layers.Embedding(12, 8, mask_zero=True)(x)
    shared = k.layers.Dense(8, activation="relu")
    for causal in (False, True):
        attended = k.layers.MultiHeadAttention(2, 5)(h, h, use_causal_mask=causal)
        h = k.layers.LayerNormalization()(k.layers.add([h, attended]))
        h = k.layers.add([h, shared(h)])
    y = k.layers.Dense(3, activation="softmax")(k.layers.GlobalAveragePooling1D()(h))
    return k.Model(x, y)


def trained(k, model, optimizer, x):
    """The predictions and the weights after a training."""
    model.compile(OPTIMIZERS[optimizer](k), "sparse_categorical_crossentropy")
    model.fit(x, LABELS, batch_size=ROWS, shuffle=False, verbose=0)
    return model.predict(x[:20], verbose=0), *model.get_weights()


def near(ours, theirs, bound):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


# Tokens by SGD alone: where one is there twice in a batch, Keras on TensorFlow takes the squares of
# the parts of its gradient, not of their sum.
PAIRS = [(kind, "sgd") for kind in (*SEQUENTIAL, "transformer")]
PAIRS += [("causal", optimizer) for optimizer in OPTIMIZERS if optimizer != "sgd"]
PAIRS += [("convnet", "adam"), ("gates", "adam"), ("gates", "rmsprop")]


@pytest.mark.parametrize(("kind", "optimizer"), PAIRS)
def test_twenty_steps_are_those_of_keras(kind, optimizer):
    keras = importable("keras")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        x, make = SEQUENTIAL.get(kind, (TOKENS, None))
        theirs, ours = (stack(k, make, x) if make else transformer(k) for k in (keras, dlcore))
        ours.set_weights(theirs.get_weights())
        outputs = theirs.predict(x[:20], verbose=0)
        expected = trained(keras, theirs, optimizer, x)
    finally:
        keras.config.set_floatx(before)
    near([ours.predict(x[:20], verbose=0)], [outputs], OUTPUTS)
    near(trained(dlcore, ours, optimizer, x), expected, TRAINED)


def modules(nn):
    """{name: (data, layers of dlcore, PyTorch's modules of those that have weights)}"""

    def recurrent(kind, **kwargs):
        return getattr(nn, kind)(4, 6, batch_first=True, **kwargs)

    return {
        "lstm": (SERIES, [layers.LSTM(6, return_sequences=True)], [recurrent("LSTM")]),
        "gru": (SERIES, [layers.GRU(6, return_sequences=True)], [recurrent("GRU")]),
        "rnn": (SERIES, [layers.SimpleRNN(6, return_sequences=True)], [recurrent("RNN")]),
        "bidirectional": (
            SERIES,
            [layers.Bidirectional(layers.LSTM(6, return_sequences=True))],
            [recurrent("LSTM", bidirectional=True)],
        ),
        "convnet": (
            IMAGES,
            [
                layers.Conv2D(6, 3, activation="relu"),
                layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
                layers.DepthwiseConv2D(3, use_bias=False),
            ],
            [
                nn.Conv2d(3, 6, 3),
                nn.BatchNorm2d(6),
                nn.Conv2d(6, 6, 3, groups=6, bias=False),
            ],
        ),
    }


def forward(torch, parts, x):
    """The same by PyTorch, with its order of axes inside."""
    images = x.ndim == 4
    h = x.permute(0, 3, 1, 2) if images else x
    for part in parts[:-1]:
        h = part(h)
        h = h[0] if isinstance(h, tuple) else h
        h = torch.relu(h) if isinstance(part, torch.nn.Conv2d) and part.groups == 1 else h
    return parts[-1](h.mean((2, 3) if images else 1))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "bidirectional", "convnet"])
def test_twenty_steps_are_those_of_pytorch(kind):
    torch = importable("torch")
    x, given, parts = modules(torch.nn)[kind]
    images = x.ndim == 4
    pool = layers.GlobalAveragePooling2D() if images else layers.GlobalAveragePooling1D()
    model = dlcore.Sequential([layers.Input(x.shape[1:]), *given, pool, layers.Dense(3)])
    parts = torch.nn.ModuleList([*parts, torch.nn.Linear(model.layers[-1].kernel.shape[0], 3)])
    parts.double()
    for layer, part in zip([*given, model.layers[-1]], parts, strict=True):
        weights_from_torch(layer, {k: v.detach() for k, v in part.state_dict().items()})
    model.compile(
        dlcore.optimizers.SGD(0.05, momentum=0.9),
        dlcore.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for name, parameter in parts.named_parameters():
        if "bias_hh" in name and kind != "gru":  # one bias is enough for Keras
            parameter.requires_grad = False
    optimizer = torch.optim.SGD(parts.parameters(), 0.05, momentum=0.9)
    data, labels = torch.tensor(x), torch.tensor(LABELS)
    near([model.predict(x, verbose=0)], [evaluated(torch, parts, data)], OUTPUTS)
    losses = []
    for rows in np.split(np.arange(ROWS * STEPS), STEPS):
        loss = torch.nn.functional.cross_entropy(forward(torch, parts, data[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    history = model.fit(x, LABELS, batch_size=ROWS, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(np.mean(losses), rel=OUTPUTS)
    if not images:  # the moving variance of Keras is the batch's, that of PyTorch the unbiased one
        near([model.predict(x, verbose=0)], [evaluated(torch, parts, data)], OUTPUTS)
    near(model.layers[-1].get_weights()[:1], [parts[-1].weight.detach().numpy().T], OUTPUTS)


def evaluated(torch, parts, x):
    parts.eval()
    with torch.no_grad():
        y = forward(torch, parts, x).numpy()
    parts.train()
    return y
