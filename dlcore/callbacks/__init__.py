"""Callbacks: what happens around epochs and batches, with the names of `keras.callbacks`."""

from typing import TYPE_CHECKING

from dlcore import lookup
from dlcore.callbacks.averages import SwapEMAWeights
from dlcore.callbacks.backup import BackupAndRestore
from dlcore.callbacks.base import Callback
from dlcore.callbacks.callback_list import CallbackList
from dlcore.callbacks.history import History
from dlcore.callbacks.monitors import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from dlcore.callbacks.others import CSVLogger, LambdaCallback, TerminateOnNaN
from dlcore.callbacks.progress import ProgbarLogger
from dlcore.callbacks.rates import LearningRateScheduler
from dlcore.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History",
    "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint", "ProgbarLogger",
    "ReduceLROnPlateau", "SwapEMAWeights", "TensorBoard", "TerminateOnNaN",
]  # fmt: skip

if not TYPE_CHECKING:  # checkers of types know what is there
    __getattr__ = lookup.refusing(__name__)
