"""What layers that prepare images share: any layout as batches (N, H, W, C), windows, sizes."""

from dlcore import ops
from dlcore.layers.base import Layer
from dlcore.ops import spatial


class ImageLayer(Layer):
    """Base of layers on batches of images (batch, H, W, C) or one image (H, W, C)."""

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = spatial.check_data_format(self.name, data_format)

    def on_batch(self, f, x):
        """f(x) for images in any layout, where f takes and returns (N, H, W, C)."""
        if x.ndim not in (3, 4):
            raise ValueError(
                f"{self.name}: expected images (batch, H, W, C) or (H, W, C), got {x.shape}"
            )
        batch = x if x.ndim == 4 else ops.expand_dims(x, 0)
        y = f(spatial.channels_last(batch, self.data_format))
        y = spatial.from_channels_last(y, self.data_format)
        return y if x.ndim == 4 else ops.squeeze(y, 0)


def resized(x, height, width, window):
    """A window (top, left, height, width) of x (N, H, W, C) as height x width pixels."""
    top, left, high, wide = window
    x = x[:, top : top + high, left : left + wide, :]
    return ops.image.resize(x, (height, width), data_format="channels_last")


def check_name(layer, what, value, known):
    """Refuse a `value` that is not in `known`."""
    if value not in known:
        names = ", ".join(map(str, known))
        raise ValueError(f"{layer.name}: expected {what} as one of {names}, got {value!r}")
    return value
