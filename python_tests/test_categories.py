"""Categories as numbers, numbers as categories, and layers around others or by an equation."""

import numpy as np
import pytest

import dlcore as keras
from dlcore import layers

WORDS = np.array([["b", "a"], ["c", "b"], ["d", "b"], ["a", "e"]])
IDS = np.array([[0, 1, 1], [3, 3, 3]])


@pytest.mark.parametrize(
    "mode, ids, expected",
    [
        ("multi_hot", IDS, [[1, 1, 0, 0], [0, 0, 0, 1]]),
        ("count", IDS, [[1, 2, 0, 0], [0, 0, 0, 3]]),
        ("one_hot", IDS[:, :1], [[1, 0, 0, 0], [0, 0, 0, 1]]),
        ("one_hot", IDS[:, 0], [[1, 0, 0, 0], [0, 0, 0, 1]]),
        ("one_hot", IDS, np.eye(4)[IDS]),
        ("multi_hot", IDS[0], [1, 1, 0, 0]),
    ],
)
def test_category_encoding(mode, ids, expected):
    layer = layers.CategoryEncoding(4, mode)
    np.testing.assert_array_equal(layer(ids), expected)
    x = keras.Input(ids.shape[1:], dtype="int32")
    if ids.ndim > 1:
        model = keras.Model(x, layer(x))
        np.testing.assert_array_equal(model.predict(ids), expected)
        assert model.output_shape == (None, *np.shape(expected)[1:])
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(again(ids), expected)


def test_weights_of_counts():
    layer = layers.CategoryEncoding(4, "count")
    weights = np.array([[0.5, 1.0, 2.0], [1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(layer(IDS, count_weights=weights), [[0.5, 3, 0, 0], [0, 0, 0, 2]])


@pytest.mark.parametrize(
    "mode, expected",
    [("int", [[0, 2], [3, 2]]), ("one_hot", np.eye(4)[[[0, 2], [3, 2]]]),
     ("multi_hot", [[1, 0, 1, 0], [0, 0, 1, 1]])],
)  # fmt: skip
def test_discretization(mode, expected):
    layer = layers.Discretization([-0.5, 0.0, 1.0], output_mode=mode)
    x = np.array([[-1.0, 0.0], [1.0, 0.5]], "float32")
    np.testing.assert_array_equal(layer(x), expected)
    again = layers.Discretization.from_config(layer.get_config())
    np.testing.assert_array_equal(again(x), expected)


@pytest.mark.parametrize("batches", [False, True])
def test_discretization_adapts(batches):
    x = np.random.default_rng(0).permutation(300).astype("float32")
    layer = layers.Discretization(num_bins=4)
    layer.adapt(keras.data.DataLoader((x,), 50) if batches else x)
    counts = np.bincount(layer(x), minlength=4)
    assert counts.sum() == 300 and abs(counts - 75).max() <= 3  # to within epsilon
    again = layers.Discretization.from_config(layer.get_config())
    assert again.bin_boundaries == layer.bin_boundaries


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("int", [[2, 0], [1, 1]]),
        ("multi_hot", [[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]]),
        ("count", [[1, 0, 1, 0, 0, 0], [0, 2, 0, 0, 0, 0]]),
    ],
)
def test_string_lookup(mode, expected):
    layer = layers.StringLookup(output_mode=mode)
    layer.adapt(WORDS)
    assert layer.get_vocabulary() == ["[UNK]", "b", "a", "e", "d", "c"]
    given = [["a", "z"], ["b", "b"]]
    np.testing.assert_array_equal(layer(given), expected)
    again = layers.StringLookup.from_config(layer.get_config())
    np.testing.assert_array_equal(again(given), expected)


def test_tf_idf():
    layer = layers.StringLookup(output_mode="tf_idf")
    layer.adapt(WORDS)
    rows_with = np.array([3, 2, 1, 1, 1])  # b a e d c, of 4 rows
    weights = np.log(1 + 4 / (1 + rows_with))
    expected = [[weights.mean(), 0, weights[1], 0, 0, 0], [0, 2 * weights[0], 0, 0, 0, 0]]
    np.testing.assert_allclose(layer([["a", "z"], ["b", "b"]]), expected, rtol=1e-6)
    again = layers.StringLookup.from_config(layer.get_config())
    np.testing.assert_allclose(again([["a", "z"], ["b", "b"]]), expected, rtol=1e-6)


def test_masks_limits_and_back(tmp_path):
    layer = layers.StringLookup(vocabulary=["a", "b"], mask_token="")
    assert layer(["", "b", "q"]).tolist() == [0, 3, 1]
    back = layers.StringLookup(vocabulary=layer.get_vocabulary(), mask_token="", invert=True)
    assert back([0, 3, 1, 9]).tolist() == ["", "b", "[UNK]", "[UNK]"]
    (tmp_path / "words.txt").write_text("a\nb\n", encoding="utf-8")
    layer = layers.StringLookup(vocabulary=str(tmp_path / "words.txt"))
    assert layer(["b"]).tolist() == [2]
    layer = layers.StringLookup(max_tokens=3)
    layer.adapt(WORDS)
    assert layer.get_vocabulary() == ["[UNK]", "b", "a"] and layer.vocabulary_size() == 3
    wide = layers.StringLookup(5, vocabulary=["a"], output_mode="count", pad_to_max_tokens=True)
    assert wide([["a", "q"]]).tolist() == [[1, 1, 0, 0, 0]]


def test_integer_lookup():
    layer = layers.IntegerLookup(num_oov_indices=2)
    layer.adapt(np.array([[3, 5], [5, 7], [9, 3], [5, 5]]))
    assert layer.get_vocabulary() == [-1, -1, 5, 3, 9, 7]
    assert layer(np.array([[5, 8], [9, 11]])).tolist() == [[2, 0], [4, 1]]
    back = layers.IntegerLookup(vocabulary=[7, 9], invert=True)
    assert back([0, 1, 2]).tolist() == [-1, 7, 9] and back([0]).dtype == "int64"


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda: layers.CategoryEncoding(), "expected num_tokens above 0, got None"),
        (lambda: layers.CategoryEncoding(3, "int"), "expected output_mode in"),
        (lambda: layers.CategoryEncoding(3, sparse=True), "expected sparse=False"),
        (lambda: layers.CategoryEncoding(3)(IDS), r"expected classes in 0\.\.2, got 3"),
        (lambda: layers.CategoryEncoding(4)(IDS, count_weights=IDS), "output_mode 'count' only"),
        (lambda: layers.Discretization(), "expected either bin_boundaries or num_bins, got none"),
        (lambda: layers.Discretization([0], 2), "got both"),
        (lambda: layers.Discretization([0]).adapt([1.0]), "expected num_bins for adapt"),
        (lambda: layers.Discretization(num_bins=2)(IDS), r"call adapt\(data\) first"),
        (lambda: layers.StringLookup()(["a"]), r"call adapt\(data\) first"),
        (lambda: layers.StringLookup(vocabulary=["a", "a"]), "got 'a' twice"),
        (lambda: layers.StringLookup(2, vocabulary=["a", "b"]), "expected at most 1 tokens"),
        (lambda: layers.StringLookup(num_oov_indices=3), "expected num_oov_indices 0 or 1, got 3"),
        (lambda: layers.StringLookup(num_oov_indices=0, vocabulary=["a"])(["b"]), "got 'b'"),
        (lambda: layers.StringLookup(invert=True, output_mode="count"), "'int' to invert"),
        (lambda: layers.StringLookup(vocabulary=["a"], output_mode="tf_idf"), "idf_weights for"),
        (
            lambda: layers.StringLookup(
                vocabulary=["a", "b"], output_mode="tf_idf", idf_weights=[1.0]
            ),
            "expected 2 idf_weights, got 1",
        ),
        (lambda: layers.EinsumDense("ab->b", 3), "expected an equation as"),
        (lambda: layers.EinsumDense("ab,bc->ac", 3)(IDS[None]), "expected input of 2 axes"),
        (lambda: layers.EinsumDense("ab,bc->ac", (3, 4))(IDS), "expected output_shape for"),
        (lambda: layers.EinsumDense("ab,bc->ac", 3, bias_axes="x")(IDS), "bias_axes among 'ac'"),
        (
            lambda: layers.EinsumDense("abc,cd->abd", (5, 4))(IDS[None]),
            "expected 2 in output_shape",
        ),
    ],
)
def test_one_sentence(act, message):
    with pytest.raises(ValueError, match=message):
        act()


@pytest.mark.parametrize(
    "equation, output_shape, bias_axes, shape",
    [
        ("ab,bc->ac", 6, "c", (2, 5)),
        ("abc,cd->abd", (None, 7), "d", (2, 3, 5)),
        ("...x,xy->...y", 7, "y", (2, 3, 4, 5)),
        ("abc,cde->abde", (None, 4, 8), "de", (2, 3, 5)),
        ("ab...,bc->ac...", 7, "c", (2, 5, 3, 4)),
        ("abc,bde->acde", (5, 2, 3), "ce", (2, 3, 5)),
        ("abcd,cde->abe", (None, 6), None, (2, 3, 4, 5)),
    ],
)
def test_einsum_dense(equation, output_shape, bias_axes, shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer = layers.EinsumDense(
        equation, output_shape, "tanh", bias_axes, bias_initializer="random_normal"
    )
    y = layer(x)
    bias = 0 if bias_axes is None else layer.bias.numpy()
    expected = np.tanh(np.einsum(equation, x, layer.kernel.numpy()) + bias)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    again = layers.EinsumDense.from_config(layer.get_config())
    again.build(shape)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), y)
    model = keras.Sequential([layer, layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, x.reshape(2, -1)[:, :1], verbose=0)


def test_activity_regularization():
    x = np.array([[1.0, -2.0]] * 4, "float32")
    layer = layers.ActivityRegularization(l1=0.1, l2=0.01)
    np.testing.assert_array_equal(layer(x), x)
    assert float(sum(layer.losses)) == pytest.approx(0.3 + 0.05)
    again = type(layer).from_config(layer.get_config())
    assert (again.l1, again.l2) == (0.1, 0.01)


def test_wrapper():
    class Twice(layers.Wrapper):
        def call(self, x):
            return 2 * self.layer(x)

    layer = Twice(layers.Dense(2))
    y = layer(IDS.astype("float32"))
    assert layer.layer.built and len(layer.weights) == 2 and y.shape == (2, 2)
    again = Twice.from_config(layer.get_config())
    assert isinstance(again.layer, layers.Dense)
    with pytest.raises(TypeError, match="expected a Layer, got 3"):
        Twice(3)


def test_hashes():
    """Against the numbers that other makers of such hashes give."""
    texts = ["", "a", "abcd", "abcdefgh", "x" * 16, "y" * 17, "word " * 6 + "ab", "z" * 33,
             "q" * 64, "r" * 65, "long text " * 20]  # fmt: skip
    plain = [34397263, 809363939, 756105985, 171807497, 121647644, 119003573, 569685880, 452501359,
             388978295, 318867178, 131210020]  # fmt: skip
    keyed = [315151164, 583610351, 353433051, 286671482, 801212791, 944025591, 644519233, 59399857,
             360387314, 266142642, 86323115]  # fmt: skip
    assert layers.Hashing(10**9)(np.array(texts)).tolist() == plain
    assert layers.Hashing(10**9, salt=(7, 9))(texts).tolist() == keyed
    crossing = layers.HashedCrossing(10**9)
    assert crossing((["a", "bb"], ["x", "y"], [3, -4])).tolist() == [38368894, 817132468]


def test_hashed_categories():
    x = np.array([["A"], ["B"], ["C"], ["D"], ["E"]])
    assert layers.Hashing(3, mask_value="B")(x).tolist() == [[1], [0], [2], [2], [1]]
    np.testing.assert_array_equal(layers.Hashing(5)([1, 2]), layers.Hashing(5)(["1", "2"]))
    np.testing.assert_array_equal(layers.Hashing(5)([1.5]), layers.Hashing(5)(["1"]))
    rows = layers.Hashing(4, output_mode="one_hot")(x)
    np.testing.assert_array_equal(rows.argmax(1), layers.Hashing(4)(x)[:, 0])
    again = layers.deserialize(layers.serialize(layers.Hashing(7, salt=5)))
    np.testing.assert_array_equal(again(x), layers.Hashing(7, salt=[5, 5])(x))
    rows = layers.HashedCrossing(5, output_mode="one_hot")((x, x))
    assert rows.shape == (5, 5) and layers.HashedCrossing(5)((x, x)).shape == (5, 1)
    with pytest.raises(ValueError, match="expected two or more arrays of one shape, got"):
        layers.HashedCrossing(5)((x, x[:2]))
    with pytest.raises(ValueError, match="expected salt as one or two ints, got 'pepper'"):
        layers.Hashing(5, salt="pepper")
