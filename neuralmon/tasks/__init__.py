"""Tasks: what a model's output means. Loss, metrics and prediction."""

from neuralmon.tasks.classification import Classification
from neuralmon.tasks.task import Batch, Sums, Task

__all__ = ["Batch", "Classification", "Sums", "Task"]
