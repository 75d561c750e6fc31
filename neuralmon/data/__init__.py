"""Datasets, the order in which their examples come, and how batches are made of them."""

from neuralmon.data.dataset import Batch, Dataset, Spec
from neuralmon.data.mnist import Mnist

__all__ = ["Batch", "Dataset", "Mnist", "Spec"]
