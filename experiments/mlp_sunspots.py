"""The sunspots of next year, forecast from those of eleven years.

    for seed in 0 1 2 3 4; do
      python launch.py --experiment=mlp_sunspots --training.seed=$seed --workdir=runs/mlp_sunspots/seed$seed
    done

Test R^2 0.904 +- 0.005, RMSE 16.0 +- 0.4 sunspots (means and standard deviations of these 5 seeds: 0.898 0.908 0.898
0.908 0.907; 16.5 15.7 16.5 15.7 15.7), validation R^2 0.844 +- 0.011; 100 epochs, 4 s a run on 2 CPU cores. Window,
width and learning rate were chosen on the validation split. Repeating the last year's number has an R^2 of 0.645 and an
RMSE of 30.8 on the same 30 years:

    python -c "import neuralmon as nm; test = nm.data.Sunspots(window=11).load()['test']
    error = ((test['inputs'][:, -1, 0] - test['targets']) ** 2).mean()
    print(1 - error / test['targets'].var(), error**0.5)"
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="rmse", value=30.8, source="repeating the last year's number on the same years, measured here"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Sunspots(window=11),
        model=nm.models.MLP(hidden=(32,)),
        task=nm.tasks.Regression(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=1e-2), weight_decay=0.3),
        training=nm.Training(batch_size=32, epochs=100, evaluate_every=nm.Epochs(5)),
    )
