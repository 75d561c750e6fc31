"""Tasks: what a model's output means. Loss, metrics and prediction."""

from neuralmon.data import Batch
from neuralmon.tasks.binary_classification import BinaryClassification
from neuralmon.tasks.classification import Classification
from neuralmon.tasks.multi_label import MultiLabel
from neuralmon.tasks.regression import Regression
from neuralmon.tasks.task import Sums, Task

__all__ = ["Batch", "BinaryClassification", "Classification", "MultiLabel", "Regression", "Sums", "Task"]
