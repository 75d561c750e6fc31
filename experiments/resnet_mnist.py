"""A small residual network on MNIST.

    for seed in 0 1 2; do
      python launch.py --experiment=resnet_mnist --training.seed=$seed --workdir=runs/resnet_mnist/seed$seed
    done

Test accuracy 99.42 %, validation 99.60 % (seed 0 alone; 8 epochs). The 99.5 % aimed at are reached on validation and
missed on the test, by 8 digits of 10,000. Width and epochs were set by what they cost, and no others were tried. The
machine was shared and the run stood still for most of the time, so its time says nothing.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="accuracy", value=0.995, source="a target set before the training, not a published figure"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(augment=(nm.data.Shift(2), nm.data.Rotate(10))),
        model=nm.models.ResNet((1, 1, 1), features=16),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.SGD(
            learning_rate=nm.optim.OneCycle(peak=0.2), momentum=0.9, nesterov=True, weight_decay=5e-4
        ),
        training=nm.Training(batch_size=128, epochs=8),
    )
