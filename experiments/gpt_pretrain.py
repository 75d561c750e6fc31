"""GPT on the words of Shakespeare's plays: the first of GPT-1's two stages, which gpt_finetune goes on from.

    python launch.py --experiment=gpt_pretrain --workdir=runs/gpt_pretrain

Perplexity of a token 58.8 on the test part and 58.2 on validation (one run, seed 0; 2,000 steps); after 500 steps it
was 118.0 and 111.2. <unknown> is one of the 2,000 tokens.
"""

import neuralmon as nm

PUBLISHED = nm.Published(metric="perplexity")


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Shakespeare(tokenizer=nm.data.Words(vocab_size=2_000), context_length=64),
        model=nm.models.GPT(context_length=64, num_layers=2, num_heads=4, width=64, dropout=0.1),
        task=nm.tasks.LanguageModel(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=4e-3, warmup=0.05)),
        training=nm.Training(batch_size=32, steps=2000, evaluate_every=1000),
    )
