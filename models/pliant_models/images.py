"""Checks of the images that models are traced, calibrated and judged with."""

from __future__ import annotations

import torch
from torch import Tensor, fx

SHAPE = "shape"
"""Metadata of nodes: (channels, height, width) of the value, also where it is flattened."""

Sizes = tuple[int | str, int | str, int | str]
"""Channels, height and width that images must have; a name allows any size."""

ANY: Sizes = ("channels", "height", "width")


def input_sizes(model: fx.GraphModule) -> tuple[int, int, int]:
    """Return channels, height and width of a quantized model's input."""
    node = next(node for node in model.graph.nodes if node.op == "placeholder")
    channels, height, width = node.meta[SHAPE]
    return channels, height, width


def check_images(what: str, images: object, sizes: Sizes = ANY) -> None:
    """Raise ValueError unless `images` are one or more images of real, finite numbers.

    Parameters
    ----------
    what : str
        Their name in the message.
    images : object
        To be a float tensor (images, channels, height, width).
    sizes : (channels, height, width)
        A number, or a name where any number will do.
    """
    wanted = f"it must be a float tensor (images, {', '.join(map(str, sizes))})"
    if not isinstance(images, Tensor):
        raise ValueError(f"{what} is a {type(images).__name__}; {wanted}")
    fits = images.ndim == 4 and all(isinstance(size, str) or size == found
                                    for size, found in zip(sizes, images.shape[1:], strict=True))
    if not fits or not images.is_floating_point():
        raise ValueError(f"{what} is {images.dtype} {tuple(images.shape)}; {wanted}")
    if not images.numel():
        raise ValueError(f"{what} holds no images: {tuple(images.shape)}; give one image or more")
    if not torch.isfinite(images).all():
        raise ValueError(f"{what} holds values that are infinite or no numbers")
