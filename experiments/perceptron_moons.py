"""Two moons and Rosenblatt's perceptron: one straight line, which every mistake moves.

    for seed in 0 1 2 3 4; do
      python launch.py --experiment=perceptron_moons --training.seed=$seed --workdir=runs/perceptron_moons/seed$seed
    done

Test accuracy 77.2 % +- 8.5 (mean and standard deviation of these 5 seeds: 68.0 78.5 83.5 69.0 87.0; 200 points),
validation 76.8 % +- 11.2; 10 epochs, 4 s a run on 2 CPU cores. No line divides the moons, so the rule never comes to
rest and the last point seen decides: that is the spread. The average of the lines is a good one. With the running
average of the averaged perceptron (Freund & Schapire, "Large margin classification using the perceptron algorithm",
Machine Learning 37, 1999), --optimizer.ema_decay=0.999, the test accuracy is 86.5 % +- 0.5 (87.0 86.5 87.0 86.0 86.0);
the line of logistic regression has 87.5 %, and mlp_moons, with hidden layers, 97.6 %.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Moons(noise=0.2),
        model=nm.models.Perceptron(),
        task=nm.tasks.BinaryClassification(objective="perceptron"),
        optimizer=nm.optim.SGD(learning_rate=1.0),
        training=nm.Training(batch_size=1, epochs=10, steps_per_chunk=400),
    )
