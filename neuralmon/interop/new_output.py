"""A classifier's output layer for other classes than the weights are for, as fine-tuning begins with."""

from typing import Any

import jax
import numpy as np

from neuralmon.errors import RequestError
from neuralmon.interop.weights import Arrays


def new_output(model: Any, key: jax.Array | None) -> Arrays:
    """Returns "classifier.weight" (classes, width) and "classifier.bias" as the model initialises them; no key: none.

    Raises:
      RequestError: the model's number of classes is None.
    """
    if model.num_classes is None:
        raise RequestError(f"{type(model).__name__}(num_classes=None): give the number of classes")
    if key is None:
        return {}
    first, second = jax.random.split(key)
    kernel = model.output_init(first, (model.width, model.num_classes))
    return {
        "classifier.weight": np.asarray(kernel).T,
        "classifier.bias": np.asarray(model.bias_init(second, (model.num_classes,))),
    }
