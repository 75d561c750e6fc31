"""LeNet-style CNN on MNIST.

python launch.py --experiment=cnn_mnist
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(shift=2),
        model=nm.models.CNN(features=(32, 64), hidden=256, dropout=0.4),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1)),
        training=nm.Training(batch_size=128, epochs=10),
    )
