"""The textbook's 784-256-10 network on MNIST.

python launch.py --experiment=mlp_mnist
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(),
        model=nm.models.MLP(hidden=(256,), dropout=0.3),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1), weight_decay=0.3),
        training=nm.Training(batch_size=128, epochs=20),
    )
