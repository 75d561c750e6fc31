"""ResNet-20 on CIFAR-10: the published network in a fifth of its epochs.

    python launch.py --experiment=resnet_cifar10 --dataset.path=FOLDER --workdir=runs/resnet_cifar10

FOLDER has train/<class>/ and test/<class>/ with images of 32 x 32; --dataset='Tfds("cifar10")' downloads the original
ones. Not measured yet. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 6: 91.25 % after 164
epochs, the rate divided by 10 after half and three quarters of 64,000 steps. Here it rises and falls once (Smith &
Topin 2018), and what is tested is the running average of the parameters.
"""

import neuralmon as nm

PUBLISHED = nm.Published(metric="accuracy", value=0.9125, source="He et al. 2016, table 6: ResNet-20, 8.75 % errors")


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.ImageFolder(
            path="cifar10",
            split=nm.data.RandomSplit(validation=0.02),
            augment=(nm.data.Crop(4, border="reflect"), nm.data.Flip(), nm.data.Cutout(8, fill=0.5)),
            mean=(0.4914, 0.4822, 0.4465),
            stddev=(0.247, 0.2435, 0.2616),
        ),
        model=nm.models.resnet20,
        task=nm.tasks.Classification(),
        optimizer=nm.optim.SGD(
            learning_rate=nm.optim.OneCycle(peak=0.4), momentum=0.9, nesterov=True, weight_decay=5e-4, ema_decay=0.998
        ),
        training=nm.Training(batch_size=128, epochs=35, evaluate_every=nm.Epochs(5)),
    )
