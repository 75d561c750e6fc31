"""Tasks: what a model's output means. Loss, metrics and prediction."""

from neuralmon.data import Batch
from neuralmon.tasks.adversarial import Adversarial
from neuralmon.tasks.adversarial_losses import (
    AdversarialLoss,
    GradientPenalty,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Penalty,
    R1Penalty,
    Wasserstein,
    hinge,
    least_squares,
    minimax,
    non_saturating,
    wasserstein,
)
from neuralmon.tasks.binary_classification import BinaryClassification
from neuralmon.tasks.classification import Classification
from neuralmon.tasks.ctc import CTC
from neuralmon.tasks.fine_tuning import FineTuning
from neuralmon.tasks.forecast import Forecast
from neuralmon.tasks.language_model import LanguageModel
from neuralmon.tasks.multi_label import MultiLabel
from neuralmon.tasks.negative_sampling import NegativeSampling
from neuralmon.tasks.regression import Regression
from neuralmon.tasks.sequence_to_sequence import SequenceToSequence
from neuralmon.tasks.task import Sums, Task
from neuralmon.tasks.trained import Findings, Trained
from neuralmon.tasks.update import Update, Updated

__all__ = [
    "CTC",
    "Adversarial",
    "AdversarialLoss",
    "Batch",
    "BinaryClassification",
    "Classification",
    "Findings",
    "FineTuning",
    "Forecast",
    "GradientPenalty",
    "Hinge",
    "LanguageModel",
    "LeastSquares",
    "Minimax",
    "MultiLabel",
    "NegativeSampling",
    "NonSaturating",
    "Penalty",
    "R1Penalty",
    "Regression",
    "SequenceToSequence",
    "Sums",
    "Task",
    "Trained",
    "Update",
    "Updated",
    "Wasserstein",
    "hinge",
    "least_squares",
    "minimax",
    "non_saturating",
    "wasserstein",
]
