"""Images in files, read and written with Pillow (the extra `[images]`)."""

import numpy as np

from dlcore import config, lookup
from dlcore.data.folders import check_known as _check
from dlcore.data.folders import loaders_of

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_FILTERS = {
    "nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "hamming": "HAMMING",
    "box": "BOX", "lanczos": "LANCZOS",
}  # fmt: skip


def _pillow(who):
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            f"{who}: expected Pillow for images, got no such package; pip install pillow"
        ) from None
    return Image


def _check_format(who, data_format):
    return _check(
        who, "data_format", data_format or config.image_data_format(),
        ("channels_last", "channels_first"),
    )  # fmt: skip


@lookup.checked
def load_img(
    path, color_mode="rgb", target_size=None, interpolation="nearest", keep_aspect_ratio=False
):
    """An image file as a Pillow image.

    Parameters
    ----------
    path : path-like or file object
    color_mode : {"rgb", "rgba", "grayscale"}
    target_size : (height, width), optional
        By default the image's own.
    interpolation : {"nearest", "bilinear", "bicubic", "hamming", "box", "lanczos"}
    keep_aspect_ratio : bool
        Whether to take the largest window of the shape of `target_size` in the middle, instead of
        changing the proportions.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    ValueError
        If the file is not an image.
    """
    image_module = _pillow("load_img")
    _check("load_img", "color_mode", color_mode, _MODES)
    _check("load_img", "interpolation", interpolation, _FILTERS)
    try:
        with image_module.open(path) as file:
            image = file.convert(_MODES[color_mode])
    except (image_module.UnidentifiedImageError, image_module.DecompressionBombError) as error:
        raise ValueError(f"load_img: expected an image in {path}, got {error}") from None
    except (OSError, SyntaxError) as error:  # what damaged files raise
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"load_img: expected an image in {path}, got {error}") from None
    if target_size is None or image.size == (target_size[1], target_size[0]):
        return image
    height, width = target_size
    box = None
    if keep_aspect_ratio:
        w, h = image.size
        high, wide = min(h, max(w * height // width, 1)), min(w, max(h * width // height, 1))
        top, left = (h - high) // 2, (w - wide) // 2
        box = (left, top, left + wide, top + high)
    how = getattr(image_module.Resampling, _FILTERS[interpolation])
    return image.resize((width, height), how, box)


def img_to_array(img, data_format=None, dtype=None):
    """A Pillow image as an array (H, W, C).

    Parameters
    ----------
    img : PIL.Image.Image
    data_format : {"channels_last", "channels_first"}, optional
    dtype : str, optional
        By default `config.floatx()`.

    Returns
    -------
    ndarray (H, W, C) or (C, H, W)
    """
    data_format = _check_format("img_to_array", data_format)
    x = np.asarray(img, dtype or config.floatx())
    if x.ndim not in (2, 3):
        raise ValueError(f"img_to_array: expected an image, got shape {x.shape}")
    x = x[:, :, None] if x.ndim == 2 else x
    return x.transpose(2, 0, 1) if data_format == "channels_first" else x


def array_to_img(x, data_format=None, scale=True, dtype=None):
    """An array (H, W, C) with 1, 3 or 4 channels as a Pillow image.

    Parameters
    ----------
    x : array_like (H, W, C) or (C, H, W)
    data_format : {"channels_last", "channels_first"}, optional
    scale : bool
        Whether to stretch the values to 0..255.
    dtype : str, optional
        To compute in; by default `config.floatx()`.

    Returns
    -------
    PIL.Image.Image
    """
    image_module = _pillow("array_to_img")
    data_format = _check_format("array_to_img", data_format)
    x = np.asarray(x, dtype or config.floatx())
    if x.ndim != 3:
        raise ValueError(f"array_to_img: expected an image (H, W, C), got shape {x.shape}")
    x = x.transpose(1, 2, 0) if data_format == "channels_first" else x
    if scale:
        x = x - x.min(initial=np.inf)
        x = x * (255 / max(x.max(initial=0), 1e-30))
    if x.shape[2] not in (1, 3, 4):
        raise ValueError(f"array_to_img: expected 1, 3 or 4 channels, got {x.shape[2]}")
    x = np.clip(x, 0, 255).astype(np.uint8)
    return image_module.fromarray(x[:, :, 0] if x.shape[2] == 1 else x)


def save_img(path, x, data_format=None, file_format=None, scale=True, **kwargs):
    """Write an array (H, W, C) as an image file.

    Parameters
    ----------
    path : path-like or file object
    x : array_like
    data_format, scale
        See `array_to_img`.
    file_format : str, optional
        By default by the name of the file.
    **kwargs
        Go to `PIL.Image.Image.save`.
    """
    image = array_to_img(x, data_format, scale)
    jpeg = file_format in ("jpg", "jpeg") or str(path).lower().endswith((".jpg", ".jpeg"))
    if image.mode == "RGBA" and jpeg:
        image = image.convert("RGB")  # JPEG has no transparency
    image.save(path, format="jpeg" if file_format == "jpg" else file_format, **kwargs)


class ImageFiles:
    """Image files as samples: (image, label), or the image alone without labels."""

    def __init__(self, paths, labels, color_mode, size, interpolation, keep, pad, data_format):
        self.paths, self.labels, self.color_mode, self.size = paths, labels, color_mode, size
        self.interpolation, self.data_format = interpolation, data_format
        self.keep, self.pad = keep, pad

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        path = self.paths[i]
        if self.pad:
            path = _padded(load_img(path, self.color_mode), self.size)
        image = load_img(path, self.color_mode, self.size, self.interpolation, self.keep)
        x = img_to_array(image, self.data_format)
        return x if self.labels is None else (x, self.labels[i])


def _padded(image, size):
    """A file in memory with the image in the middle of a black one of the proportions of `size`."""
    import io

    (w, h), (height, width) = image.size, size
    wide, high = max(w, h * width // height), max(h, w * height // width)
    whole = _pillow("load_img").new(image.mode, (wide, high))
    whole.paste(image, ((wide - w) // 2, (high - h) // 2))
    file = io.BytesIO()
    whole.save(file, "png")
    return file


@lookup.checked
def image_dataset_from_directory(
    directory,
    labels="inferred",
    label_mode="int",
    class_names=None,
    color_mode="rgb",
    batch_size=32,
    image_size=(256, 256),
    shuffle=True,
    seed=None,
    validation_split=None,
    subset=None,
    interpolation="bilinear",
    follow_links=False,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    data_format=None,
    verbose=True,
    workers=2,
):
    """Batches of the images in a folder, read by background threads.

    Parameters
    ----------
    directory : path-like
        With one folder of images for each class, or, without labels, with images anywhere.
    labels : "inferred", None or sequence of int
        The class of each image is that of its folder; or there are none; or they are given, in the
        order of the sorted paths.
    label_mode : {"int", "categorical", "binary", None}
        Class numbers, one-hot rows, columns of 0 and 1, or no labels.
    class_names : list of str, optional
        The folders in the order of the class numbers; by default sorted.
    color_mode : {"rgb", "rgba", "grayscale"}
    batch_size : int or None
        None has single images.
    image_size : (height, width)
    shuffle : bool
        Whether each epoch has a new order; else that of the sorted paths.
    seed : int, optional
        Of the order, and of which images validate.
    validation_split : float, 0..1, optional
        Share of the images that validate.
    subset : {"training", "validation", "both"}, optional
        Which part to return with `validation_split`.
    interpolation : {"bilinear", "nearest", "bicubic", "hamming", "box", "lanczos"}
    follow_links : bool
        Whether to enter folders that are symbolic links.
    crop_to_aspect_ratio, pad_to_aspect_ratio : bool
        Whether to cut off what is too much of an image of other proportions, or to add black
        margins, instead of changing them.
    data_format : {"channels_last", "channels_first"}, optional
    verbose : bool
        Whether to print how many files there are.
    workers : int
        Threads that read.

    Returns
    -------
    DataLoader
        Of batches (x, y) or x, x float (N, H, W, C) with values 0..255; with `class_names` and
        `file_paths`. For "both" a tuple of two.
    """
    who = "image_dataset_from_directory"
    _pillow(who)
    for what, value, known in (
        ("color_mode", color_mode, _MODES),
        ("interpolation", interpolation, _FILTERS),
    ):
        _check(who, what, value, known)

    size = tuple(image_size) if isinstance(image_size, (tuple, list)) else ()
    if len(size) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in size):
        raise ValueError(f"{who}: expected image_size as (height, width), got {image_size!r}")

    def samples(paths, y):
        return ImageFiles(
            paths, y, color_mode, size, interpolation, crop_to_aspect_ratio,
            pad_to_aspect_ratio, _check_format(who, data_format),
        )  # fmt: skip

    return loaders_of(
        who, "images", directory, EXTENSIONS, samples, labels, label_mode, class_names,
        batch_size, shuffle, seed, validation_split, subset, follow_links, verbose, workers,
    )  # fmt: skip
