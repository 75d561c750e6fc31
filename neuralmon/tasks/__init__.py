"""Tasks: what a model's output means. Loss, metrics and prediction."""

from neuralmon.data import Batch
from neuralmon.tasks.classification import Classification
from neuralmon.tasks.task import Sums, Task

__all__ = ["Batch", "Classification", "Sums", "Task"]
