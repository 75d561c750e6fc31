"""Which type a Pokémon has, by its sprite: a residual network on colours, with strong augmentation.

    for seed in 0 1 2; do
      python launch.py --experiment=pokemon_types_best --dataset.path=SPRITES --training.seed=$seed \\
        --workdir=runs/pokemon_types_best/seed$seed
    done

SPRITES is a folder or a zip of your own, see docs/data.md. Not measured yet. The network of the article is in
experiments/pokemon_types.py; the species of the test are the same.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="accuracy", value=0.45, source="a target set before the training, not a published figure"
)


def experiment() -> nm.Experiment:
    moved = (nm.data.Flip(), nm.data.RandomResizedCrop(min_scale=0.5), nm.data.Rotate(15))
    shaded = nm.data.Colour(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.03)
    return nm.Experiment(
        dataset=nm.data.Pokemon(colour="rgb", augment=(*moved, shaded)),
        model=nm.models.ResNet((1, 1, 1), features=32, stem="imagenet", shortcut="projection"),
        task=nm.tasks.Classification(label_smoothing=0.1),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.05), weight_decay=0.1),
        training=nm.Training(batch_size=64, epochs=40, evaluate_every=nm.Epochs(5)),
    )
