"""Conditional GAN on MNIST: dense layers that are told the digit.

    python launch.py --experiment=cgan_mnist --workdir=runs/cgan_mnist
    python launch.py --mode=sample --workdir=runs/cgan_mnist --label=7 --num_samples=64 --output=sevens.png

Not measured yet. The structure is that of Mirza & Osindero, "Conditional Generative Adversarial Nets", 2014, section
4.1, in smaller sizes; `nm.models.conditional_gan_mnist` has the published ones. As in gan_mnist, a gradient penalty and
Adam are in the place of dropout and momentum. `as_asked` of the result says which part of the digits are those that
were asked for.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="largest_deviation", value=0.2, source="a target set before the training, not a published figure"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(pixel_range=(0, 1)),
        model=nm.models.GAN(
            nm.models.MLPGenerator(latent_dim=64, hidden=(256, 512), conditional=True, label_features=128),
            nm.models.MLPDiscriminator(hidden=(256, 256), pieces=(2, 2), conditional=True, label_features=64),
        ),
        task=nm.tasks.Adversarial(penalty=nm.tasks.R1Penalty(weight=0.1)),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Linear(peak=1e-3), b1=0.0, ema_decay=0.998),
        training=nm.Training(batch_size=128, epochs=30),
    )
