"""Degradation: deeper plain networks train worse, residual ones do not. 20 and 56 layers, with and without shortcuts.

    for n in 3 9; do
      python launch.py --experiment=resnet_vs_plain --model.stage_sizes=$n,$n,$n --dataset.path=FOLDER \\
        --workdir=runs/resnet_vs_plain/residual-$((6*n+2))
      python launch.py --experiment=resnet_vs_plain --model.stage_sizes=$n,$n,$n --model.shortcut=None \\
        --dataset.path=FOLDER --workdir=runs/resnet_vs_plain/plain-$((6*n+2))
    done
    cd runs/resnet_vs_plain && python -m neuralmon.figures.compare --split=train --metric=loss \
      residual-20=residual-20 residual-56=residual-56 plain-20=plain-20 plain-56=plain-56

FOLDER is that of experiments/resnet_cifar10.py. Not measured yet. The figure is that of He et al., "Deep Residual
Learning for Image Recognition", CVPR 2016, figure 6, left and middle, on a shorter schedule. What counts is the loss in
training: the deeper plain network is worse there too, so it is not that it overfits.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.ImageFolder(
            path="cifar10",
            split=nm.data.RandomSplit(validation=0.1),
            augment=(nm.data.Crop(4), nm.data.Flip()),
            mean=(0.4914, 0.4822, 0.4465),
            stddev=(0.247, 0.2435, 0.2616),
        ),
        model=nm.models.ResNet((3, 3, 3)),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.SGD(
            learning_rate=nm.optim.Step(peak=0.1, at=(0.5, 0.75), warmup=0.02), momentum=0.9, weight_decay=1e-4
        ),
        training=nm.Training(batch_size=128, epochs=6),
    )
