"""Augmentations: pure functions of numbers, a key and a batch, run inside the compiled step.

They see images as float32, bytes scaled to 0 ... 1, before normalisation; what comes in from outside an image is 0.
Their numbers are arguments of the program, so a sweep over strengths compiles once. Each example draws for itself, and
strength 0 changes nothing, to the last bit.
"""

from neuralmon.data.augment.base import Augmentation, Images
from neuralmon.data.augment.colour import Colour
from neuralmon.data.augment.corruption import Cutout, Noise
from neuralmon.data.augment.geometry import Crop, Flip, RandomResizedCrop, Rotate, Shift, shift
from neuralmon.data.augment.mixing import CutMix, Mixup

__all__ = [
    "Augmentation",
    "Colour",
    "Crop",
    "CutMix",
    "Cutout",
    "Flip",
    "Images",
    "Mixup",
    "Noise",
    "RandomResizedCrop",
    "Rotate",
    "Shift",
    "shift",
]
