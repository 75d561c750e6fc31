"""The textbook's 784-256-10 network on MNIST.

    for seed in 0 1 2 3 4; do
      python launch.py --experiment=mlp_mnist --training.seed=$seed --workdir=runs/mlp_mnist/seed$seed
    done

Test accuracy 98.46 % +- 0.07 (mean and standard deviation of these 5 seeds: 98.38 98.55 98.43 98.44 98.49), validation
98.78 % +- 0.11; 20 epochs, 13 s a run on 2 CPU cores. Dropout and weight decay were chosen on the validation split.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="accuracy", value=0.953, source="LeCun et al. 1998, fig. 9: 300 hidden units, 4.7 % errors"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(),
        model=nm.models.MLP(hidden=(256,), dropout=0.3),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1), weight_decay=0.3),
        training=nm.Training(batch_size=128, epochs=20),
    )
