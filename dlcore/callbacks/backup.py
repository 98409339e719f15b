"""BackupAndRestore: training goes on where it was interrupted."""

import os

from dlcore import random
from dlcore.callbacks.base import Callback

_FILE = "backup.dlcore"


class BackupAndRestore(Callback):
    """Save the state of `fit` after every epoch, and start from it when `fit` is called again.

    Weights, the optimizer's state, the number of the epoch and the state of the random numbers that
    shuffle the rows come back, so that the figures are those of a training without interruption.

    Parameters
    ----------
    backup_dir : path-like
        A folder of its own for each training.
    save_freq : "epoch" or int, default "epoch"
        Every epoch, or also every so many batches: `fit` then does that epoch once more, from the
        weights of the last batch saved.
    double_checkpoint
        Accepted for Keras' sake: a file is always complete before it replaces the last one.
    delete_checkpoint : bool, default True
        Whether to remove the file once `fit` has come to its end.
    """

    def __init__(
        self, backup_dir, save_freq="epoch", double_checkpoint=False, delete_checkpoint=True
    ):
        super().__init__()
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise ValueError(
                f"BackupAndRestore: expected save_freq 'epoch' or an int, got {save_freq!r}"
            )
        self.backup_dir, self.save_freq = os.fspath(backup_dir), save_freq
        self.double_checkpoint, self.delete_checkpoint = double_checkpoint, delete_checkpoint
        self._path = os.path.join(self.backup_dir, _FILE)
        self._epoch = self._batches = 0

    def __new__(cls, *args, save_freq="epoch", **kwargs):
        # Only a backup by batches asks `fit` for every batch.
        by_batch = save_freq != "epoch" or (len(args) > 1 and args[1] != "epoch")
        cls = _BatchBackup if by_batch and cls is BackupAndRestore else cls
        return super().__new__(cls, **kwargs)

    def on_train_begin(self, logs=None):
        os.makedirs(self.backup_dir, exist_ok=True)
        if os.path.exists(self._path):
            from dlcore.io.saving import load_state

            document = load_state(self.model, self._path)
            self.model._initial_epoch = document["epoch"]
            random.global_rng().bit_generator.state = document["random"]

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self._save(epoch + 1)

    def on_train_end(self, logs=None):
        if self.delete_checkpoint and os.path.exists(self._path):
            os.remove(self._path)

    def _save(self, epoch):
        from dlcore.io.saving import save_state

        state = random.global_rng().bit_generator.state
        save_state(self.model, self._path, {"epoch": epoch, "random": _plain(state)})


class _BatchBackup(BackupAndRestore):
    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        if self._batches % self.save_freq == 0:
            self._save(self._epoch)


def _plain(state):
    """The state of a random generator as JSON can hold it."""
    if isinstance(state, dict):
        return {k: _plain(v) for k, v in state.items()}
    return state if isinstance(state, (str, int)) else state.tolist()
