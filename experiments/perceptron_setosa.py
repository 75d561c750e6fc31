"""Setosa or versicolor: Rosenblatt's perceptron on two classes that a plane divides, as published.

    for seed in 0 1 2 3 4; do
      python launch.py --experiment=perceptron_setosa --training.seed=$seed --workdir=runs/perceptron_setosa/seed$seed
    done

After 2 1 1 2 2 mistakes (these 5 seeds), each of which is an update, no flower is taken for the other species again:
accuracy 100 % on validation and test, 20 flowers each. By Novikoff's bound, (R / margin)^2 of the 60 training flowers =
(2.987 / 0.8006)^2, there can be 13 at most. 5 epochs, 16 s a run on 2 shared CPU cores, nearly all of it start-up.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="accuracy", value=1.0, source="Novikoff 1962: what a plane divides is learnt without a mistake"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Iris(species=("setosa", "versicolor"), split=nm.data.RandomSplit(validation=0.2, test=0.2)),
        model=nm.models.Perceptron(),
        task=nm.tasks.BinaryClassification(objective="perceptron"),
        optimizer=nm.optim.SGD(learning_rate=1.0),
        training=nm.Training(batch_size=1, epochs=5, steps_per_chunk=60),
    )
