"""Transfer: what is learnt of the digits 0 to 4 helps with 5 to 9, of which there are ten examples each.

    python launch.py --experiment=mnist_transfer --workdir=runs/transfer/low \\
      --dataset.classes=0,1,2,3,4 --dataset.examples=None --training.epochs=5
    for seed in 0 1 2 3 4; do
      python launch.py --experiment=mnist_transfer --training.seed=$seed --workdir=runs/transfer/scratch$seed
      python launch.py --experiment=mnist_transfer --training.seed=$seed --workdir=runs/transfer/high$seed \\
        --init_from=runs/transfer/low --init_patterns='conv_*,hidden' --optimizer.frozen='conv_*'
    done

Not measured yet.

The convolutions stay as they are, the hidden layer goes on from where it was, and the output layer begins anew.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(classes=(5, 6, 7, 8, 9), examples=10),
        model=nm.models.CNN(features=(16, 32), hidden=128, dropout=0.4),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1)),
        training=nm.Training(batch_size=50, epochs=100, evaluate_every=nm.Epochs(50)),
    )
