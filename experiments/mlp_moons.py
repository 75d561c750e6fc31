"""MLP 2-32-32-2 on two moons.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Moons(noise=0.2),
        model=nm.models.MLP(hidden=(32, 32)),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=1e-2)),
        training=nm.Training(batch_size=64, epochs=20),
    )
