"""Which type a Pokémon has, by its sprite: the second network of Soares 2017, with dropout and augmentation.

    for seed in 0 1 2; do
      python launch.py --experiment=pokemon_types --dataset.path=SPRITES --training.seed=$seed \\
        --workdir=runs/pokemon_types/seed$seed
    done

SPRITES is a folder or a zip of your own, see docs/data.md. Not measured yet.

The article (H. M. Soares, "Who is that Neural Network?", Journal of Geek Studies 4(1): 24-38, 2017) has 39 % test
accuracy, and 25 % for its first network, without dropout and augmentation:

    python launch.py --experiment=pokemon_types --dataset.path=SPRITES --model.dropout=None --dataset.augment='()' \\
      --task.label_smoothing=0 --optimizer='Adam(learning_rate=1e-3)' --training.epochs=20 --workdir=runs/pokemon_plain

As there, 30 % of the species are the test; a tenth of all is taken from the training for validation.
"""

import neuralmon as nm

PUBLISHED = nm.Published(metric="accuracy", value=0.39, source="Soares 2017, second network")


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Pokemon(augment=(nm.data.Flip(), nm.data.RandomResizedCrop(min_scale=0.5), nm.data.Rotate(15))),
        model=nm.models.CNN(features=(32, 64), hidden=64, kernel_size=(5, 5), padding="VALID", dropout=0.5),
        task=nm.tasks.Classification(label_smoothing=0.1),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=1e-3, warmup=0.05), weight_decay=0.3),
        training=nm.Training(batch_size=64, epochs=40, evaluate_every=nm.Epochs(5)),
    )
