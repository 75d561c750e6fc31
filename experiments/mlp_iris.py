"""MLP 4-16-3 on Fisher's irises.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Iris(split=nm.data.RandomSplit(validation=0.2, test=0.2)),
        model=nm.models.MLP(hidden=(32,)),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=1e-2)),
        training=nm.Training(batch_size=16, epochs=50, evaluate_every=nm.Epochs(5)),
    )
