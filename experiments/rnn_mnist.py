"""MNIST read row by row, 28 steps of 28 pixels, by a simple recurrent network.

    python launch.py --experiment=rnn_mnist --workdir=runs/rnn_mnist

Test accuracy 97.70 %, validation 97.80 % (one run, seed 0); 10 epochs, 94 s on 2 CPU cores that others used too. The
same network with gates, lstm_mnist and gru_mnist, has 99.30 % and 99.23 %.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="accuracy", value=0.975, source="a target set before the training, not a published figure"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.SequentialMnist(augment=(nm.data.Shift(2),)),
        model=nm.models.RNN(hidden=(128,)),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=1e-3, warmup=0.1), clip_norm=1.0),
        training=nm.Training(batch_size=128, epochs=10),
    )
