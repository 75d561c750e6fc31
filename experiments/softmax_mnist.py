"""Softmax regression on MNIST: no hidden layer at all.

    for seed in 0 1 2 3 4; do
      python launch.py --experiment=softmax_mnist --training.seed=$seed --workdir=runs/softmax_mnist/seed$seed
    done

Test accuracy 92.59 % +- 0.04 (mean and standard deviation of these 5 seeds: 92.62 92.52 92.60 92.58 92.61), validation
94.19 % +- 0.10; 10 epochs, 3 s a run on 2 CPU cores.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="accuracy", value=0.88, source="LeCun et al. 1998, fig. 9: linear classifier, 12.0 % errors"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(),
        model=nm.models.MLP(hidden=()),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1)),
        training=nm.Training(batch_size=128, epochs=10),
    )
