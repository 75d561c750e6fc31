"""Which play is a passage from? The second of GPT-1's two stages: a head for classes on a pre-trained language model.

    python launch.py --experiment=gpt_pretrain --workdir=runs/gpt_pretrain
    shared=--dataset.vocabulary_of=runs/gpt_pretrain
    python launch.py --experiment=gpt_finetune $shared --init_from=runs/gpt_pretrain --workdir=runs/gpt_finetune/tuned
    python launch.py --experiment=gpt_finetune $shared --workdir=runs/gpt_finetune/from_scratch

The language model has read the first four fifths of the plays; the passages are from the last seven plays, which it
has not. With the auxiliary loss of Radford et al. 2018, eq. 5: --model.next_tokens=true --task=FineTuning.

There is no gain to show: the pre-trained network is behind that from scratch (one run each, seed 0), test accuracy
24.5 % against 39.1 %, of 7 plays. With a largest rate of 3e-4 for the tuned network, which these numbers are from:

    | passages to learn from | from scratch, 1e-3 | tuned, 3e-4 | tuned, 1e-3 |
    | all 2,143              | validation 40.2 %  | 26.3 %      |             |
    | 300 (30 epochs)        | validation 27.2 %  | 19.7 %      | 17.6 %      |

Of 300 passages the tuned network learns 99.9 % by heart at 1e-3. A better language model does not help: after 500
steps, a fourth of those of now, a first try had 22 % against 38 % on validation. A likely reason, which has not been
tested, is that a play is told by its words wherever they stand, while what predicts the next word has learnt to look
at the last few.
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
