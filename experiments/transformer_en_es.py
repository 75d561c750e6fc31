"""A Transformer translates English verses into Spanish; whole books are held out.

    python launch.py --experiment=transformer_en_es --workdir=runs/en_es
    python launch.py --mode=sample --workdir=runs/en_es --input="There was a man in the land." --beam_size=4

Not measured yet.
"""

import neuralmon as nm

PUBLISHED = nm.Published(metric="bleu")


def experiment() -> nm.Experiment:
    return nm.Experiment(
        # About five pairs of verses in a row of 192 tokens.
        dataset=nm.data.VersesEnEs(tokenizer=nm.data.BytePair(vocab_size=4_000), pack=192),
        model=nm.models.Transformer(
            num_layers=3, num_heads=4, width=128, feedforward_dim=512, pre_norm=True, dropout=0.1
        ),
        task=nm.tasks.SequenceToSequence(),
        optimizer=nm.optim.AdamW(
            learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1), b2=0.98, clip_norm=1.0, ema_decay=0.999
        ),
        training=nm.Training(batch_size=16, epochs=6),
    )
