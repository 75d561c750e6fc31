"""A small Vision Transformer on MNIST: 49 patches of 4 x 4 pixels as tokens.

    for seed in 0 1 2; do
      python launch.py --experiment=vit_mnist --training.seed=$seed --workdir=runs/vit_mnist/seed$seed
    done

Not measured yet.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Mnist(augment=(nm.data.Shift(2), nm.data.Rotate(10))),
        model=nm.models.ViT(patch_size=4, num_layers=4, num_heads=4, width=64, feedforward_dim=128, dropout=0.1),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.AdamW(
            learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1), weight_decay=0.05, clip_norm=1.0
        ),
        training=nm.Training(batch_size=128, epochs=8),
    )
