"""Where variables live: an array on the host and, once programs on a GPU use it, a copy there.

Contents move only when somebody looks: a program on the GPU asks for the device's array, all else
for the host's. In between, weights stay on the GPU from step to step and from call to call.
"""

import weakref

import numpy as np

_on_devices = weakref.WeakSet()
_listeners = []


class Memory:
    """An array on the host that variables are views of, and its copy on a device.

    root : contiguous ndarray.  device : array of the same shape and dtype on the GPU, or None.
    """

    __slots__ = ("__weakref__", "_newer", "device", "root")

    def __init__(self, root):
        self.root, self.device = root, None
        self._newer = None  # "host" or "device": which of the two the other has to follow

    def on_device(self, empty):
        """The device's array with the current contents; ``empty(shape, dtype)`` makes it."""
        if self.device is None:
            self.device, self._newer = empty(self.root.shape, self.root.dtype), "host"
            _on_devices.add(self)
        if self._newer == "host":
            self.device.set(self.root)
            self._newer = None
        return self.device

    def changed_on_device(self):
        self._newer = "device"

    def changed_on_host(self):
        if self.device is not None:
            self._newer = "host"

    def bring_home(self):
        """The host's array gets the current contents."""
        if self._newer == "device":
            np.copyto(self.root, self.device.get())
            self._newer = None


def when_device_changes(listener):
    """Call `listener()` whenever programs start to run elsewhere."""
    _listeners.append(listener)


def tell_listeners():
    for listener in _listeners:
        listener()


def bring_all_home():
    """All contents are on the host; copies on devices stay."""
    for memory in list(_on_devices):
        memory.bring_home()


def leave_devices():
    """Give up all copies on devices; their contents should have come home before."""
    for memory in list(_on_devices):
        memory.device = memory._newer = None
    _on_devices.clear()
