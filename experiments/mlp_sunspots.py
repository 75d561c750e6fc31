"""MLP 22-32-1 that forecasts next year's sunspots.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Sunspots(window=11),
        model=nm.models.MLP(hidden=(32,)),
        task=nm.tasks.Regression(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=1e-2), weight_decay=0.3),
        training=nm.Training(batch_size=32, epochs=100, evaluate_every=nm.Epochs(5)),
    )
