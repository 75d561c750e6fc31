"""Generative adversarial network of dense layers on MNIST.

    python launch.py --experiment=gan_mnist

Not measured yet.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="largest_deviation", value=0.2, source="a target set before the training, not a published figure"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(pixel_range=(0, 1)),
        model=nm.models.GAN(
            nm.models.MLPGenerator(latent_dim=64, hidden=(256, 512)),
            nm.models.MLPDiscriminator(hidden=(256, 256), pieces=(2, 2)),
        ),
        task=nm.tasks.Adversarial(penalty=nm.tasks.R1Penalty(weight=0.1)),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Linear(peak=1e-3), b1=0.0, ema_decay=0.998),
        training=nm.Training(batch_size=128, epochs=30),
    )
