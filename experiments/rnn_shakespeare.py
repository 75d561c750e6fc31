"""A recurrent network without gates writes like Shakespeare; lstm_shakespeare has as many parameters and gates.

    python launch.py --experiment=rnn_shakespeare --workdir=runs/rnn_shakespeare
    python launch.py --mode=sample --workdir=runs/rnn_shakespeare --prompt="ROMEO:" --temperature=0.8

355,135 parameters, and 355,347 in lstm_shakespeare; data and number of steps are the same. What
is to be compared is `bits_per_character`.

Not measured yet.
"""

import neuralmon as nm

PUBLISHED = nm.Published(metric="bits_per_character")


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Shakespeare(context_length=128, split=nm.data.ChronologicalSplit(validation=0.05, test=0.05)),
        model=nm.models.RNN(hidden=(522,), embedding_dim=64, output="all"),
        task=nm.tasks.LanguageModel(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=1e-3, warmup=0.05), clip_norm=1.0),
        training=nm.Training(batch_size=32, steps=1500, evaluate_every=500),
    )
