"""A small Transformer learns to write strings from their end to their beginning.

    python launch.py --experiment=transformer_reverse --workdir=runs/transformer_reverse

Of 1,000 test strings of 1 to 20 letters, none of which was in the training, 100 % are written without a mistake, and of
the validation's too (one run, seed 0). Longer strings than it has seen it does not reverse: of 21 letters 9 % are
right, of 22 to 30 none. No other settings were tried. The machine was shared and the run was resumed several times, so
its time says nothing.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="exact_match", value=1.0, source="a target set before the training, not a published figure"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Reverse(),
        model=nm.models.Transformer(num_layers=2, num_heads=4, width=64, feedforward_dim=256, pre_norm=True),
        task=nm.tasks.SequenceToSequence(label_smoothing=0.0, beam_size=1, bleu=False),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1), clip_norm=1.0),
        training=nm.Training(batch_size=128, epochs=10),
    )
