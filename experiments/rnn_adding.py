"""The adding problem over 200 steps, which a simple recurrent network does not learn: compare lstm_adding.

    python launch.py --experiment=rnn_adding --workdir=runs/rnn_adding

Mean squared error on the test 0.158, on validation 0.157 (one run, seed 0), where always answering 1 has 1/6 = 0.167;
3,000 steps, 83 s on 2 CPU cores that others used too. The LSTM of the same width, trained the same, has 0.00034.
"""

import neuralmon as nm

PUBLISHED = nm.Published(metric="mse")


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.AddingProblem(length=200),
        model=nm.models.RNN(hidden=(64,)),
        task=nm.tasks.Regression(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=5e-3, warmup=0.05), clip_norm=1.0),
        training=nm.Training(batch_size=64, steps=3_000, evaluate_every=250),
    )
