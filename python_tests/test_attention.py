"""dot_product_attention: its kernel against the formulas, which test_ops.py holds to finite
differences; masks; bits; layers."""

import itertools

import numpy as np
import pytest

import dlcore
from dlcore import layers, ops
from dlcore.check import oracle
from dlcore.ops import philox
from dlcore.ops.attention import dropped_attention

RNG = np.random.default_rng(3)
EPS = {"float32": 4e-6, "float64": 1e-13}


def heads(dtype, *shape):
    return RNG.normal(size=shape).astype(dtype)


# B, T, S, N, K, H, D
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 5, 5, 2, 2, 4, 4),
    (1, 1, 130, 2, 2, 8, 8),
    (2, 97, 193, 2, 1, 5, 3),
    (1, 200, 100, 4, 2, 16, 17),
    (1, 100, 300, 1, 1, 33, 8),
    (3, 96, 96, 2, 2, 32, 32),
]


def run(f, arrays):
    value, grads = dlcore.value_and_grad(f, tuple(range(len(arrays))))(*arrays)
    return [value, *grads]


def dropped(q, k, v, causal=False, step=7):
    return dropped_attention(q, k, v, None, None, np.array([step]), causal, (0.6, 5, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "causal", "kind"),
    list(itertools.product(SHAPES, (False, True), ("plain", "padding", "mask", "bias", "dropout"))),
    ids=str,
)
def test_kernel_against_formula(shape, causal, kind, dtype):
    b, t, s, n, k, h, d = shape
    xs = [heads(dtype, b, t, n, h), heads(dtype, b, s, k, h), heads(dtype, b, s, k, d)]
    more = {}
    if kind == "padding":
        more["mask"] = RNG.random((b, 1, 1, s)) < 0.7
    elif kind == "mask":
        more["mask"] = RNG.random((n, t, s)) < 0.5
    elif kind == "bias":
        xs.append(heads(dtype, 1, n, t, s))
    weight = heads(dtype, b, t, n, d)

    def forward(q, k, v, bias=None):
        if kind == "dropout":
            return dropped(q, k, v, causal)
        return ops.dot_product_attention(q, k, v, bias, is_causal=causal, **more)

    def loss(*xs):
        y = forward(*xs)
        return ops.sum(y * ops.cast(weight, y.dtype))

    wide = [x.astype("float64") for x in xs]
    scale = EPS[dtype] * (1 + s / 50)
    np.testing.assert_allclose(forward(*xs), oracle.run(forward, wide)[0], rtol=scale, atol=scale)
    _, expected = oracle.gradient(loss, wide)
    for actual, e in zip(run(loss, xs)[1:], expected, strict=True):
        np.testing.assert_allclose(
            actual, e, rtol=5 * scale, atol=5 * scale * max(1, np.abs(e).max())
        )


def test_dropout_multiplies_the_weights_by_zero_or_one_over_keep():
    q, k = heads("float64", 2, 40, 3, 4), heads("float64", 2, 30, 3, 4)
    v = np.broadcast_to(np.eye(30)[:, None], (2, 30, 3, 30))  # the result is the weights
    weights, kept = ops.dot_product_attention(q, k, v), dropped(q, k, v)
    words = philox.philox_words(np, 2 * 3 * 40 * 4, 5, 3, 7)
    drawn = words.astype("<u4").view("<u2").reshape(2, 3, 40, 32)[..., :30] < round(0.6 * 2**16)
    factors = drawn.transpose(0, 2, 1, 3) * 2**16 / round(0.6 * 2**16)
    np.testing.assert_allclose(kept, weights * factors, atol=1e-15)
    assert 0.57 < drawn.mean() < 0.63
    assert (dropped(q, k, v, step=8) != kept).any()
    few = dropped_attention(q, k, v, None, None, np.array([7]), False, (1e-9, 5, 3))
    assert np.isfinite(few).all() and (few == 0).mean() > 0.99


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_with_dropout_against_differences(causal):
    xs = [heads("float64", 2, 5, 2, 3), heads("float64", 2, 6, 1, 3), heads("float64", 2, 6, 1, 2)]
    ways = [heads("float64", *x.shape) for x in xs]

    def first(*xs):
        return ops.sum(ops.sin(dropped(*xs, causal)))

    def second(*xs):
        return sum(ops.sum(ops.sin(g)) for g in dlcore.grad(first, (0, 1, 2))(*xs))

    for f in (first, second):
        step = 1e-6
        there, back = ([x + s * w for x, w in zip(xs, ways, strict=True)] for s in (step, -step))
        slope = (f(*there) - f(*back)) / (2 * step)
        grads = dlcore.grad(f, (0, 1, 2))(*xs)
        np.testing.assert_allclose(sum(np.vdot(*p) for p in zip(grads, ways, strict=True)), slope,
                                   rtol=1e-7)  # fmt: skip


def test_a_query_that_sees_nothing_gives_zero():
    q, k, v = (
        heads("float32", 2, 3, 1, 4),
        heads("float32", 2, 5, 1, 4),
        heads("float32", 2, 5, 1, 4),
    )
    mask = np.ones((2, 1, 3, 5), bool)
    mask[1, 0, 2] = False

    def loss(q, k, v):
        return ops.sum(ops.square(ops.dot_product_attention(q, k, v, mask=mask)))

    y = ops.dot_product_attention(q, k, v, mask=mask)
    assert not y[1, 2].any() and np.isfinite(y).all() and y[1, 1].any()
    _, grads = dlcore.value_and_grad(loss, (0, 1, 2))(q, k, v)
    assert all(np.isfinite(g).all() for g in grads) and not grads[0][1, 2].any()


def test_bits_do_not_depend_on_threads_or_batch():
    q, k, v = (heads("float32", 4, 150, 2, 24) for _ in range(3))

    def loss(q, k, v):
        return ops.sum(ops.square(ops.dot_product_attention(q, k, v, is_causal=True)))

    before = dlcore.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 7):
            dlcore.set_num_threads(threads)
            results.append(run(loss, (q, k, v)))
    finally:
        dlcore.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    whole = ops.dot_product_attention(q, k, v, is_causal=True)
    for i in range(4):
        row = ops.dot_product_attention(q[i : i + 1], k[i : i + 1], v[i : i + 1], is_causal=True)
        np.testing.assert_array_equal(row[0], whole[i])


def test_later_keys_do_not_change_earlier_queries():
    q, k, v = (heads("float32", 1, 130, 2, 8) for _ in range(3))
    y = ops.dot_product_attention(q, k, v, is_causal=True)
    k[:, 70:], v[:, 70:] = 9, -9
    z = ops.dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_array_equal(y[:, :70], z[:, :70])
    assert (y[:, 70:] != z[:, 70:]).any()


def test_large_scores_and_nan():
    q = np.full((1, 2, 1, 4), 1e4, "float32")
    k, v = q * np.array([1, -1], "float32").reshape(1, 2, 1, 1), heads("float32", 1, 2, 1, 4)
    y = ops.dot_product_attention(q, k, v)
    np.testing.assert_allclose(y[0, 1, 0], v[0, 0, 0], rtol=1e-6)
    q[0, 1, 0, 0] = np.nan
    y = ops.dot_product_attention(q, k, v)
    assert np.isnan(y[0, 1]).all() and np.isfinite(y[0, 0]).all()


WRONG = [
    ({"query": (2, 3, 4)}, r"expected query, key and value \(batch, steps, heads, width\)"),
    ({"key": (2, 3, 3, 5)}, r"expected key \(2, steps, a divisor of 4, 5\)"),
    ({"key": (2, 3, 4, 6)}, r"expected key \(2, steps"),
    ({"value": (2, 4, 4, 5)}, "expected value of at least one step like key"),
    ({"key": (2, 0, 4, 5), "value": (2, 0, 4, 5)}, "expected value of at least one step"),
    ({"mask": (3, 3)}, r"expected mask that broadcasts to \(2, 4, 7, 3\), got \(3, 3\)"),
    ({"bias": (1, 2, 4, 7, 3)}, "expected bias that broadcasts to"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=str)
def test_wrong_shapes_are_explained(changes, message):
    shapes = {"query": (2, 7, 4, 5), "key": (2, 3, 4, 5), "value": (2, 3, 4, 5), **changes}
    arrays = {name: np.ones(s, "float32") for name, s in shapes.items()}
    with pytest.raises(ValueError, match="dot_product_attention: " + message):
        ops.dot_product_attention(**arrays)


@pytest.mark.parametrize("drops", [False, True])
def test_memory_grows_with_the_sequence_not_its_square(drops):
    from dlcore.backends import compile
    from dlcore.program.graph import Graph, Trace

    sizes = []
    for t in (256, 1024):
        with Trace() as trace:
            q, k, v = (trace.input((1, t, 1, 16), "float32") for _ in range(3))
            y = dropped(q, k, v, True) if drops else ops.dot_product_attention(q, k, v)
            grads = dlcore.gradients(ops.sum(ops.square(y)), [q, k, v])
            sizes.append(compile(Graph(trace, grads)).memory_bytes)
    assert sizes[1] <= 4.5 * sizes[0]


# -- layers


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(layer, q, v, k, mask):
    wq, bq, wk, bk, wv, bv, wo, bo = (w.astype("float64") for w in layer.get_weights())
    q = np.einsum("btd,dnh->bnth", q, wq) + bq[:, None]
    k = np.einsum("bsd,dnh->bnsh", k, wk) + bk[:, None]
    v = np.einsum("bsd,dnh->bnsh", v, wv) + bv[:, None]
    scores = np.einsum("bnth,bnsh->bnts", q, k) / np.sqrt(q.shape[-1])
    weights = softmax(np.where(mask, scores, -1e30))
    y = np.einsum("bnts,bnsh->btnh", weights, v)
    return np.einsum("btnh,nho->bto", y, wo) + bo, weights


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention(causal, scores):
    layer = layers.MultiHeadAttention(
        3, 4, value_dim=5, output_shape=6, bias_initializer="random_normal"
    )
    q, v, k = heads("float32", 2, 7, 8), heads("float32", 2, 9, 5), heads("float32", 2, 9, 3)
    mask = RNG.random((2, 7, 9)) < 0.8
    mask[:, :, 0] = True
    y = layer(q, v, k, attention_mask=mask, use_causal_mask=causal, return_attention_scores=scores)
    seen = mask & (np.tri(7, 9, dtype=bool) if causal else True)
    expected, weights = by_hand(layer, q, v, k, seen[:, None])
    if scores:
        y, got = y
        np.testing.assert_allclose(got, weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert [w.shape for w in layer.weights][::2] == [(8, 3, 4), (3, 3, 4), (5, 3, 5), (3, 5, 6)]


def test_masks_of_embeddings_reach_attention():
    ids = np.array([[3, 1, 0, 0], [2, 2, 1, 0]])
    a = dlcore.Input((4,), dtype="int32")
    x = layers.Embedding(5, 6, mask_zero=True)(a)
    attention = layers.MultiHeadAttention(2, 3)
    y = attention(x, x)
    model = dlcore.Model(a, layers.GlobalAveragePooling1D()(y))
    found = model.predict(ids, verbose=0)
    w = model.layers[1].get_weights()[0]
    for i, n in enumerate((2, 3)):
        short = attention(w[ids[i : i + 1, :n]], w[ids[i : i + 1, :n]])
        np.testing.assert_allclose(found[i], short[0].mean(0), rtol=1e-4, atol=1e-6)


def test_a_masked_query_gives_the_bias():
    layer = layers.MultiHeadAttention(2, 3, bias_initializer="ones")
    x, kept = np.ones((2, 4, 6), "float32"), np.array([[1, 0, 1, 1], [0, 1, 1, 0]], bool)
    y, free = layer(x, x, query_mask=kept), layer(x, x)
    np.testing.assert_array_equal(y[kept], free[kept])
    np.testing.assert_array_equal(y[~kept], 1)


def test_a_query_that_sees_no_key_gives_the_bias():
    """With the weights and without, which are then 0 as in Keras."""
    layer = layers.MultiHeadAttention(2, 3, bias_initializer="ones")
    x, mask = heads("float32", 2, 4, 6), np.ones((2, 4, 4), bool)
    mask[1, 2] = False
    y, weights = layer(x, x, attention_mask=mask, return_attention_scores=True)
    np.testing.assert_array_equal(y[1, 2], 1)
    np.testing.assert_array_equal(weights[1, :, 2], 0)
    np.testing.assert_allclose(layer(x, x, attention_mask=mask), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [None, 2, (1,), (-2, 1)])
def test_attention_over_axes(axes):
    layer = layers.MultiHeadAttention(2, 3, attention_axes=axes)
    x = heads("float32", 2, 3, 4, 5)
    y, weights = layer(x, x, return_attention_scores=True)
    np.testing.assert_allclose(layer(x, x), y, rtol=1e-4, atol=1e-5)
    plain = layers.MultiHeadAttention(2, 3)
    plain(x[0], x[0])
    plain.set_weights(layer.get_weights())
    if axes == 2:
        expected, seen = np.stack([plain(r, r) for r in x]), (2, 3, 2, 4, 4)
    elif axes == (1,):
        swapped = x.transpose(0, 2, 1, 3)
        expected = np.stack([plain(r, r) for r in swapped]).transpose(0, 2, 1, 3)
        seen = (2, 4, 2, 3, 3)
    else:
        flat = x.reshape(2, 12, 5)
        expected = plain(flat, flat).reshape(x.shape)
        seen = (2, 2, 3, 4, 3, 4) if axes is None else (2, 2, 4, 3, 4, 3)
    assert weights.shape == seen
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="expected no masks with inputs of 4 axes"):
        layer(x, x, use_causal_mask=True)


def test_attention_dropout_only_while_training():
    layer = layers.MultiHeadAttention(1, 4, dropout=0.5)
    x = heads("float32", 2, 6, 4)
    np.testing.assert_array_equal(layer(x, x), layer(x, x))
    assert (layer(x, x, training=True) != layer(x, x)).any()
    several = np.mean([layer(x, x, training=True) for _ in range(3000)], 0)
    np.testing.assert_allclose(several, layer(x, x), atol=0.05)


@pytest.mark.parametrize(
    "layer",
    [layers.Attention(), layers.Attention(use_scale=True), layers.AdditiveAttention(),
     layers.Attention(score_mode="concat")],
    ids=("dot", "scale", "additive", "concat"),
)  # fmt: skip
def test_attention_layers(layer):
    q, v, k = (heads("float32", 2, n, 5) for n in (3, 4, 4))
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    y, weights = layer([q, v, k], mask=[None, mask], return_attention_scores=True)
    if isinstance(layer, layers.AdditiveAttention):
        scores = (np.tanh(q[:, :, None] + k[:, None]) * layer.scale.numpy()).sum(-1)
    elif layer.score_mode == "concat":
        scores = np.tanh(q[:, :, None] + k[:, None]).sum(-1)
    else:
        scores = q @ k.transpose(0, 2, 1)
    expected = softmax(np.where(mask[:, None], scores, -1e9))
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(y, expected @ v, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [False, True])
def test_transformer_blocks_learn_to_copy_the_first_token(first):
    ids = RNG.integers(0, 4, (256, 6))
    a = dlcore.Input((6,), dtype="int32")
    x = layers.TokenAndPositionEmbedding(4, 6, 16)(a)
    x = layers.TransformerEncoder(32, 2, normalize_first=first)(x)
    x = layers.TransformerDecoder(32, 2, normalize_first=first)(x, x)
    model = dlcore.Model(a, layers.Dense(4, activation="softmax")(x))
    model.compile(dlcore.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    y = np.repeat(ids[:, :1], 6, axis=1)
    history = model.fit(ids, y, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.3 * history[0]
    again = dlcore.models.clone_model(model)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        again.predict(ids[:3], verbose=0), model.predict(ids[:3], verbose=0)
    )


def test_a_decoder_does_not_look_ahead():
    layer = layers.TransformerDecoder(16, 2)
    x = heads("float32", 1, 8, 4)
    y = layer(x)
    x[:, 5:] += 1
    np.testing.assert_array_equal(layer(x)[:, :5], y[:, :5])


def test_wrong_layer_inputs_are_explained():
    with pytest.raises(ValueError, match=r"expected inputs \(batch, steps, features\)"):
        layers.MultiHeadAttention(2, 3)(heads("float32", 2, 4), heads("float32", 2, 4))
    with pytest.raises(ValueError, match="expected a width that 3 heads divide, got 8"):
        layers.TransformerEncoder(4, 3)(heads("float32", 2, 4, 8))
    with pytest.raises(ValueError, match="expected a list"):
        layers.Attention()(heads("float32", 2, 4, 8))


def test_groups_of_queries_share_keys():
    x, y = heads("float32", 2, 5, 6), heads("float32", 2, 7, 6)
    layer = layers.GroupQueryAttention(4, 4, 2, sliding_window=3, use_gate=True)
    whole = layers.MultiHeadAttention(4, 4, sliding_window=3, use_gate=True)
    expected_shape = layer(x, y).shape
    assert expected_shape == (2, 5, 6)
    whole(x, y)
    weights = layer.get_weights()
    kv = {2, 3, 6, 7}  # kernels and biases of keys and values
    whole.set_weights([np.repeat(w, 2, -2) if i in kv else w for i, w in enumerate(weights)])
    expected, scores = whole(x, y, return_attention_scores=True)
    got, own_scores = layer(x, y, return_attention_scores=True)
    for a, b in ((layer(x, y), expected), (got, expected), (own_scores, scores)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    far = np.abs(np.arange(5)[:, None] - np.arange(7)) >= 3
    assert (own_scores[..., far] == 0).all() and (own_scores[..., ~far] > 0).all()
    again = type(layer).from_config(layer.get_config())
    again(x, y)
    again.set_weights(weights)
    np.testing.assert_array_equal(again(x, y), layer(x, y))
    with pytest.raises(ValueError, match="num_key_value_heads that divide 4 query heads, got 3"):
        layers.GroupQueryAttention(4, 4, 3)
