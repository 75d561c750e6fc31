"""Fisher's irises: three species by four lengths.

    for seed in 0 1 2 3 4; do
      python launch.py --experiment=mlp_iris --training.seed=$seed --workdir=runs/mlp_iris/seed$seed
    done

Test accuracy 100 % +- 0 (mean and standard deviation of these 5 seeds), validation 100 % +- 0; 50 epochs, 4 s a run on
2 CPU cores. Width and epochs were chosen on the validation split. Either split has 30 flowers, so one of them is 3.3 %:
of other splits, --dataset.split.seed=1, 2 and 3, the test accuracy is 100, 93.3 and 93.3 %.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Iris(split=nm.data.RandomSplit(validation=0.2, test=0.2)),
        model=nm.models.MLP(hidden=(32,)),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=1e-2)),
        training=nm.Training(batch_size=16, epochs=50, evaluate_every=nm.Epochs(5)),
    )
