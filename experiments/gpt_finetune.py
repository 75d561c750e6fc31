"""Which play is a passage from? The second of GPT-1's two stages: a head for classes on a pre-trained language model.

    python launch.py --experiment=gpt_pretrain --workdir=runs/gpt_pretrain
    shared=--dataset.vocabulary_of=runs/gpt_pretrain
    python launch.py --experiment=gpt_finetune $shared --init_from=runs/gpt_pretrain --workdir=runs/gpt_finetune/tuned
    python launch.py --experiment=gpt_finetune $shared --workdir=runs/gpt_finetune/from_scratch

The language model has read the first four fifths of the plays; the passages are from the last seven plays, which it
has not. With the auxiliary loss of Radford et al. 2018, eq. 5: --model.next_tokens=true --task=FineTuning.

Not measured yet. In a first try, of one seed and before stage directions were left out as well as they are now, the
pre-trained network was behind that from scratch: no gain is shown.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.ShakespearePassages(words=40, length=64, tokenizer=nm.data.Words(vocab_size=2_000)),
        model=nm.models.GPTClassifier(
            context_length=64, num_layers=2, num_heads=4, width=64, dropout=0.1, output_dropout=0.1
        ),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=1e-3, warmup=0.1)),
        training=nm.Training(batch_size=32, epochs=10),
    )
