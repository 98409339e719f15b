"""Image files and folders of them."""

import os

import numpy as np
import pytest

import dlcore
from dlcore import layers, utils

pytest.importorskip("PIL")

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (9, 7, 3)).astype("uint8")


@pytest.fixture
def folder(tmp_path):
    """Two classes, three and two images of one color each, one of them deeper inside."""
    for name, colors in (("cats", (10, 20, 30)), ("dogs", (110, 120))):
        for i, color in enumerate(colors):
            inside = tmp_path / name / ("more" if i == 2 else "")
            inside.mkdir(parents=True, exist_ok=True)
            utils.save_img(inside / f"{i}.png", np.full((6, 8, 3), color), scale=False)
    (tmp_path / "cats" / "notes.txt").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_there_and_back(tmp_path, channels):
    x = RNG.integers(0, 256, (5, 4, channels)).astype("uint8")
    file = tmp_path / "x.png"
    utils.save_img(file, x, scale=False)
    mode = {1: "grayscale", 3: "rgb", 4: "rgba"}[channels]
    y = utils.img_to_array(utils.load_img(file, color_mode=mode))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x)
    first = utils.img_to_array(utils.load_img(file, mode), "channels_first", "uint8")
    np.testing.assert_array_equal(first, x.transpose(2, 0, 1))
    utils.save_img(tmp_path / "y.png", first, "channels_first", scale=False)
    np.testing.assert_array_equal(utils.img_to_array(utils.load_img(tmp_path / "y.png", mode)), x)
    utils.save_img(tmp_path / "x.jpg", x)  # without transparency


def test_scaling_and_sizes(tmp_path):
    x = utils.img_to_array(utils.array_to_img(np.array([[[1.0], [3.0], [2.0]]])))
    np.testing.assert_array_equal(x.ravel(), [0, 255, 127])
    utils.array_to_img(np.zeros((2, 2, 1)))
    file = tmp_path / "x.png"
    utils.save_img(file, IMAGE, scale=False)
    assert utils.load_img(file, target_size=(4, 5)).size == (5, 4)
    window = utils.load_img(file, target_size=(7, 7), keep_aspect_ratio=True)
    np.testing.assert_array_equal(utils.img_to_array(window), IMAGE[1:8])


def colors(loader):
    return [np.unique(b[0] if isinstance(b, tuple) else b).tolist() for b in loader]


def test_folder(folder):
    data = utils.image_dataset_from_directory(
        folder, image_size=(3, 4), batch_size=2, shuffle=False, verbose=False
    )
    assert data.class_names == ["cats", "dogs"] and len(data) == 3 and len(data.file_paths) == 5
    (x, y), *_ = data
    assert x.shape == (2, 3, 4, 3) and x.dtype == np.float32 and y.tolist() == [0, 0]
    assert np.concatenate([y for _, y in data]).tolist() == [0, 0, 0, 1, 1]
    assert colors(data) == [[10, 20], [30, 110], [120]]


def test_labels(folder, capsys):
    def load(**kwargs):
        return utils.image_dataset_from_directory(
            folder, image_size=(2, 2), shuffle=False, verbose=False, **kwargs
        )

    (_, y), = load(label_mode="categorical")  # fmt: skip
    assert y.tolist() == [[1, 0]] * 3 + [[0, 1]] * 2
    (_, y), = load(label_mode="binary", class_names=["dogs", "cats"])  # fmt: skip
    assert y.tolist() == [[0]] * 2 + [[1]] * 3
    (x,) = load(label_mode=None)
    assert x.shape == (5, 2, 2, 3)
    (_, y), = load(labels=[4, 3, 2, 1, 0])  # fmt: skip
    assert y.tolist() == [4, 3, 2, 1, 0]
    x, y = next(iter(load(batch_size=None)))
    assert x.shape == (2, 2, 3) and y == 0
    first = load(color_mode="grayscale", data_format="channels_first")
    assert next(iter(first))[0].shape == (5, 1, 2, 2)
    utils.image_dataset_from_directory(folder)
    assert capsys.readouterr().out == "Found 5 images of 2 classes\n"


def test_parts_and_order(folder):
    def load(subset, **kwargs):
        return utils.image_dataset_from_directory(
            folder, image_size=(2, 2), seed=3, validation_split=0.4, subset=subset, verbose=False,
            batch_size=1, **kwargs,
        )  # fmt: skip

    train, validation = load("both")
    assert colors(load("training")) == colors(train) and len(train) == 3 and len(validation) == 2
    assert sorted(colors(load("validation")) + colors(load("training"))) == [
        [10], [20], [30], [110], [120],
    ]  # fmt: skip
    assert colors(load("validation", shuffle=False)) == [[110], [120]]


def test_training_from_a_folder(folder):
    data = utils.image_dataset_from_directory(folder, image_size=(4, 4), verbose=False, seed=1)
    model = dlcore.Sequential(
        [layers.Input((4, 4, 3)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2)]
    )
    loss = dlcore.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    history = model.fit(data, epochs=40, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert model.predict(data).shape == (5, 2)


def test_one_sentence(folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    whole = (folder / "cats" / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for file in ("bad.png", "cut.png"):
        with pytest.raises(ValueError, match=rf"^load_img: expected an image in .*{file}"):
            utils.load_img(tmp_path / file)
    load = utils.image_dataset_from_directory
    wrong = [
        (lambda: utils.load_img(folder / "cats" / "0.png", "cmyk"), "expected color_mode"),
        (lambda: utils.array_to_img(np.zeros((2, 2))), r"expected an image \(H, W, C\)"),
        (lambda: utils.array_to_img(np.zeros((2, 2, 2))), "expected 1, 3 or 4 channels"),
        (lambda: load(folder / "nowhere"), "expected a folder, got"),
        (lambda: load(folder, label_mode="odd"), "expected label_mode"),
        (lambda: load(folder, class_names=["cats", "cows"]), "expected a folder for each class"),
        (lambda: load(folder, labels=[0]), "expected 7 labels, got 1"),
        (lambda: load(folder, labels=["a"] * 7), "expected class numbers as labels, got 'a'"),
        (lambda: load(folder, image_size=(0, 8)), r"image_size as \(height, width\), got \(0, 8\)"),
        (lambda: load(folder, image_size=8), r"image_size as \(height, width\), got 8"),
        (lambda: load(folder, batch_size=0), "expected a positive batch_size, got 0"),
        (lambda: load(folder, subset="training"), "validation_split and subset together"),
        (lambda: load(folder, validation_split=2.0, subset="both"), "between 0 and 1"),
        (lambda: load(folder, class_names=["cats"], label_mode="binary"), "expected two classes"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
    os.mkdir(tmp_path / "none")
    with pytest.raises(ValueError, match="expected files"):
        load(tmp_path / "none", labels=None)
    with pytest.raises(RuntimeError, match="got ValueError: load_img: expected an image in"):
        list(load(folder, labels=None, image_size=(2, 2), verbose=False))
