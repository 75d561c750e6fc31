"""Deep convolutional GAN on MNIST.

    python launch.py --experiment=dcgan_mnist

Not measured yet.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="frechet_distance",
    value=3.9,
    source="a target set before the training, not a published figure: five times that of the real test digits",
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(pixel_range=(-1, 1)),
        model=nm.models.GAN(
            nm.models.DCGANGenerator(sample_shape=(28, 28, 1), latent_dim=64, features=(64, 32)),
            nm.models.DCGANDiscriminator(features=(32, 64)),
        ),
        task=nm.tasks.Adversarial(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Linear(peak=5e-4), b1=0.5, ema_decay=0.998),
        training=nm.Training(batch_size=64, epochs=5),
    )
