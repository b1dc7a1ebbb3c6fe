import numpy as np
import torch

from pliant_models.photographs import DEVIATION, MEAN, crops, photographs


def test_photographs_are_colour_images_without_downloads():
    images = photographs()
    assert len(images) == 6
    for image in images:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert min(image.shape[:2]) >= 224
        assert len(np.unique(image)) > 200


def test_crops_are_seeded_normalised_and_of_the_asked_size():
    first, again, other = crops(7, 64, seed=1), crops(7, 64, seed=1), crops(7, 64, seed=2)
    assert first.shape == (7, 3, 64, 64)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    mean, deviation = (torch.tensor(value)[:, None, None] for value in (MEAN, DEVIATION))
    pixels = (first * deviation + mean) * 255
    assert pixels.min() >= -1e-3
    assert pixels.max() <= 255 + 1e-3
    assert pixels.std() > 30


def test_crops_keep_the_colours_of_their_photographs():
    for image, photograph in zip(crops(6, 32, seed=5), photographs(), strict=True):
        pixels = (image * torch.tensor(DEVIATION)[:, None, None]
                  + torch.tensor(MEAN)[:, None, None]) * 255
        difference = pixels.mean(dim=(1, 2)).numpy() - photograph.mean(axis=(0, 1))
        assert np.abs(difference).max() < 60
