"""Files in folders, a folder for each class, as batches that background threads read."""

import os

import numpy as np

from dlcore import config, random
from dlcore.data.loader import DataLoader
from dlcore.data.splitting import one_hot


def check_known(who, what, value, known):
    """Refuse a `value` that is not in `known`."""
    if value not in known:
        names = ", ".join(map(str, known))
        raise ValueError(f"{who}: expected {what} as one of {names}, got {value!r}")
    return value


def loaders_of(
    who, kind, directory, extensions, samples, labels, label_mode, class_names, batch_size, shuffle,
    seed, validation_split, subset, follow_links, verbose, workers,
):  # fmt: skip
    """A `DataLoader` of the files in a folder, or two for the subset "both"; `samples(paths, y)`
    reads them. For the other arguments see `image_dataset_from_directory`.
    """
    check_known(who, "label_mode", label_mode, ("int", "categorical", "binary", None))
    check_known(who, "subset", subset, (None, "training", "validation", "both"))
    if (validation_split is None) != (subset is None):
        raise ValueError(
            f"{who}: expected validation_split and subset together,"
            f" got {validation_split!r} and {subset!r}"
        )
    if validation_split is not None and not 0 < validation_split < 1:
        raise ValueError(
            f"{who}: expected validation_split between 0 and 1, got {validation_split!r}"
        )
    labels = labels if label_mode is not None else None
    paths, numbers, names = find_files(
        who, directory, extensions, labels, class_names, follow_links
    )
    y = _targets(who, numbers, label_mode, len(names)) if labels is not None else None
    if verbose:
        print(f"Found {len(paths)} {kind}" + (f" of {len(names)} classes" if names else ""))
    seed = int(random.global_rng().integers(2**31)) if seed is None else seed
    loaders = []
    for rows in _rows(who, len(paths), shuffle, seed, validation_split, subset):
        files = samples([paths[i] for i in rows], None if y is None else y[rows])
        one = batch_size is None
        loader = DataLoader(files, 1 if one else batch_size, shuffle, seed, workers=workers)
        if one:
            loader.batch_transform = _first
        loader.class_names, loader.file_paths = names, files.paths
        loaders.append(loader)
    return loaders[0] if len(loaders) == 1 else tuple(loaders)


def _first(batch, rng):
    return tuple(part[0] for part in batch) if isinstance(batch, tuple) else batch[0]


def find_files(who, directory, extensions, labels, class_names, follow_links):
    """(paths, class numbers or None, class names) of the files in a folder."""
    directory = os.fspath(directory)
    if not os.path.isdir(directory):
        raise ValueError(f"{who}: expected a folder, got {directory}")
    if labels != "inferred":
        paths = _walk(directory, extensions, follow_links)
        if labels is not None and len(labels) != len(paths):
            raise ValueError(f"{who}: expected {len(paths)} labels, got {len(labels)}")
        numbers = None if labels is None else np.asarray(labels)
        known = 0
        if labels is not None and len(labels):
            if numbers.dtype.kind not in "iu":
                raise ValueError(f"{who}: expected class numbers as labels, got {labels[0]!r}")
            if numbers.min() < 0:
                raise ValueError(f"{who}: expected labels from 0 on, got {numbers.min()}")
            numbers, known = numbers.astype(np.int32), int(numbers.max()) + 1
        names = list(class_names) if class_names else [str(i) for i in range(known)]
    else:
        found = sorted(e.name for e in os.scandir(directory) if e.is_dir())
        names = found if class_names is None else list(class_names)
        if set(names) - set(found) or not names:
            raise ValueError(f"{who}: expected a folder for each class, got {found}")
        paths, numbers = [], []
        for number, name in enumerate(names):
            inside = _walk(os.path.join(directory, name), extensions, follow_links)
            paths += inside
            numbers += [number] * len(inside)
        numbers = np.asarray(numbers, np.int32)
    if not paths:
        raise ValueError(f"{who}: expected files ({', '.join(extensions)}), got none")
    return paths, numbers, names


def _walk(folder, extensions, follow_links):
    return sorted(
        os.path.join(at, file)
        for at, _, files in os.walk(folder, followlinks=follow_links)
        for file in files
        if file.lower().endswith(extensions)
    )


def _targets(who, numbers, label_mode, classes):
    if label_mode == "categorical":
        return one_hot(numbers, classes)
    if label_mode == "binary":
        if classes != 2:
            raise ValueError(f"{who}: expected two classes for label_mode 'binary', got {classes}")
        return numbers.astype(config.floatx())[:, None]
    return numbers


def _rows(who, n, shuffle, seed, fraction, subset):
    """The rows of each part that is asked for."""
    order = np.random.default_rng(seed).permutation(n) if shuffle else np.arange(n)
    if fraction is None:
        return [np.arange(n)]
    at = n - int(fraction * n)
    if at in (0, n):
        raise ValueError(f"{who}: expected files in both parts, got {fraction} of {n}")
    parts = {"training": order[:at], "validation": order[at:]}
    return list(parts.values()) if subset == "both" else [parts[subset]]
