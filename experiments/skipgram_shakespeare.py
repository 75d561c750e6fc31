"""Word vectors of Shakespeare's plays: skip-gram with negative sampling.

    python launch.py --experiment=skipgram_shakespeare --workdir=runs/skipgram_shakespeare

Loss 2.569 on the validation passages, 2.576 on the test's (seed 0); knowing nothing is 6 log 2 = 4.159. The true
context is above 5 words of noise in 31 % of the validation examples; at random it is in 17 %. 30 epochs, 29 s of CPU
time in all on 2 cores. What the vectors say (see docs/zoo/word_embeddings.md):

    python -c "import neuralmon as nm; from neuralmon.reports.word_vectors import WordVectors
    vectors = WordVectors.of(nm.load_run('runs/skipgram_shakespeare'))
    for word in ('father', 'heart', 'night', 'romeo', 'king'):
        print(word, '~', *(near for near, _ in vectors.nearest(word, 5)))
    for line in ('he him she', 'he himself she', 'i my we', 'thou thy you', 'man men woman', 'good better bad'):
        print(line, *(word for word, _ in vectors.analogy(*line.split(), 1)))"

    father ~ brother husband son daughter mother
    heart ~ sorrow tears tongue mouth bosom
    night ~ morning day morrow time carried
    romeo ~ juliet mercutio benvolio tybalt nurse
    king ~ bolingbroke xi talbot derby warwick
    he him she her
    he himself she herself
    i my we our
    thou thy you your
    man men woman women
    good better bad worse
"""

import neuralmon as nm


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.ShakespeareWords(window=4, negatives=5, min_count=10, subsample=1e-3),
        model=nm.models.SkipGram(embedding_dim=64),
        task=nm.tasks.NegativeSampling(),
        optimizer=nm.optim.SGD(learning_rate=nm.optim.Linear(peak=50.0)),
        training=nm.Training(batch_size=4096, epochs=30, evaluate_every=nm.Epochs(10)),
    )
