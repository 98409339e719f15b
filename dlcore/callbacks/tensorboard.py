"""TensorBoard: figures in event files, which the program `tensorboard` shows.

A file is a sequence of records: length (uint64), its checksum, an Event (a protocol buffer), its
checksum; all numbers have the least byte first, checksums are CRC-32C, rotated. Only the fields of
scalars are needed, so that nothing has to be installed to write them.
"""

import functools
import os
import struct
import time
import warnings

import numpy as np

from dlcore.callbacks.base import Callback
from dlcore.callbacks.rates import learning_rate


@functools.cache
def _crc_table():
    """The remainders of all bytes by Castagnoli's polynomial, bits reversed."""
    table = []
    for c in range(256):
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
        table.append(c)
    return table


def _checksum(data):
    crc, table = 0xFFFFFFFF, _crc_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def _field(number, data):
    """A field of bytes."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


class EventFile:
    """A new event file in a folder.

    Parameters
    ----------
    folder : str
    """

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():020d}.{os.getpid()}.v2"
        self._file = open(os.path.join(folder, name), "xb")  # noqa: SIM115
        self._write(_field(3, b"brain.Event:2"))

    def scalar(self, tag, value, step):
        """Add one figure."""
        one = _field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)
        self._write(b"\x10" + _varint(step) + _field(5, _field(1, one)))

    def _write(self, fields):
        event = b"\x09" + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))

    def flush(self):
        self._file.flush()

    def close(self):
        self._file.close()


class TensorBoard(Callback):
    """Write loss, metrics and learning rate where the program `tensorboard` finds them.

    Figures are called epoch_loss, ... as Keras calls them, those of training in the folder "train",
    those of validation and `evaluate` in "validation".

    Parameters
    ----------
    log_dir : path-like, default "logs"
    update_freq : "epoch", "batch" or int
        Whether to write batch_loss, ... too, every batch or every so many.
    histogram_freq, write_graph, write_images, write_steps_per_second : optional
    profile_batch, embeddings_freq, embeddings_metadata : optional
        Accepted for Keras' sake: only figures are written.
    """

    def __init__(
        self, log_dir="logs", histogram_freq=0, write_graph=True, write_images=False,
        write_steps_per_second=False, update_freq="epoch", profile_batch=0, embeddings_freq=0,
        embeddings_metadata=None,
    ):  # fmt: skip
        super().__init__()
        self.log_dir = os.fspath(log_dir)
        if update_freq not in ("epoch", "batch") and not (
            isinstance(update_freq, int) and update_freq > 0
        ):
            raise ValueError(
                f"TensorBoard: expected update_freq 'epoch', 'batch' or an int, got {update_freq!r}"
            )
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._files, self._steps, self._fitting = {}, 0, False
        if histogram_freq or write_images or embeddings_freq or profile_batch:
            warnings.warn(
                "TensorBoard: expected figures alone to be asked for, got more; histograms, images,"
                " embeddings and profiles are not written",
                stacklevel=2,
            )

    def __new__(cls, *args, update_freq="epoch", **kwargs):
        # Only figures of batches ask `fit` for every batch.
        by_batch = update_freq != "epoch" or (len(args) > 5 and args[5] != "epoch")
        return super().__new__(_BatchBoard if by_batch and cls is TensorBoard else cls, **kwargs)

    def _scalars(self, kind, prefix, logs, step, suffix=""):
        file = self._files.get(kind)
        if file is None:
            file = self._files[kind] = EventFile(os.path.join(self.log_dir, kind))
        for name, value in logs.items():
            if np.ndim(value) == 0:
                file.scalar(f"{prefix}_{name}{suffix}", float(value), step)
        file.flush()

    def on_train_begin(self, logs=None):
        self._fitting, self._steps = True, 0

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        train = {k: v for k, v in logs.items() if not k.startswith("val_")}
        train["learning_rate"] = learning_rate(self.model)
        self._scalars("train", "epoch", train, epoch)
        validation = {k[4:]: v for k, v in logs.items() if k.startswith("val_")}
        if validation:
            self._scalars("validation", "epoch", validation, epoch)

    def on_test_end(self, logs=None):
        step = int(self.model.optimizer.iterations)
        self._scalars("validation", "evaluation", logs or {}, step, "_vs_iterations")
        if not self._fitting:
            self._close()

    def on_train_end(self, logs=None):
        self._fitting = False
        self._close()

    def _close(self):
        for file in self._files.values():
            file.close()
        self._files = {}


class _BatchBoard(TensorBoard):
    def on_train_batch_end(self, batch, logs=None):
        if self._steps % self.update_freq == 0:
            self._scalars("train", "batch", logs or {}, self._steps)
        self._steps += 1
