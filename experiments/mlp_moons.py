"""Two moons, told apart by a small network: the decision regions can be seen.

    for seed in 0 1 2 3 4; do
      python launch.py --experiment=mlp_moons --training.seed=$seed --workdir=runs/mlp_moons/seed$seed
    done

Test accuracy 97.60 % +- 0.22 (mean and standard deviation of these 5 seeds: 97.5 97.5 97.5 98.0 97.5; 200 points),
validation 96.80 % +- 0.27; 20 epochs, 4 s a run on 2 CPU cores. Widths and learning rate were chosen on the validation
split. With noise of 0.2 the moons overlap, so that no network gets all points right. Its regions beside a perceptron's:

    python launch.py --experiment=perceptron_moons --workdir=runs/perceptron_moons
    python -m neuralmon.reports.regions runs/perceptron_moons runs/mlp_moons/seed0 --output=moons.png
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Moons(noise=0.2),
        model=nm.models.MLP(hidden=(32, 32)),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=1e-2)),
        training=nm.Training(batch_size=64, epochs=20),
    )
