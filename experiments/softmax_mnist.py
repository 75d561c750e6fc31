"""Softmax regression on MNIST: no hidden layer at all.

python launch.py --experiment=softmax_mnist
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(),
        model=nm.models.MLP(hidden=()),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1)),
        training=nm.Training(batch_size=128, epochs=10),
    )
