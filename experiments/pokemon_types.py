"""Which type a Pokémon has, by its sprite."""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Pokemon(augment=(nm.data.Flip(), nm.data.Rotate(15), nm.data.Shift(6))),
        model=nm.models.CNN(features=(32, 64), hidden=64, kernel_size=(5, 5), padding="VALID", dropout=0.5),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=1e-3, warmup=0.05)),
        training=nm.Training(batch_size=64, epochs=30, evaluate_every=nm.Epochs(2)),
    )
