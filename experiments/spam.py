"""Spam or not: short messages in a table of yours, told apart by the words in them.

    python launch.py --experiment=spam --dataset.path=messages.csv --dataset.text=text --dataset.target=label

No messages are shipped. A table without a head, such as the SMS Spam Collection of UCI, needs a first line that names
its columns; a file that is not UTF-8 is said to be so, and how to convert it. Spam is the rarer class, which is why the
classes weigh alike in the loss; the report has precision and recall of each.

Not measured yet.
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.TextCsv(
            path="messages.csv", tokenizer=nm.data.Words(vocab_size=10_000), length=64, class_weights="balanced"
        ),
        model=nm.models.TextCNN(
            kernel_sizes=(1, 2, 3), features=64, embedding_dim=32, pool="mean", embedding_dropout=0.5, dropout=None
        ),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=2e-3)),
        training=nm.Training(batch_size=32, epochs=10),
    )
