"""Word vectors of Shakespeare's plays: skip-gram with negative sampling.

    python launch.py --experiment=skipgram_shakespeare --workdir=runs/skipgram_shakespeare

Loss on the test's passages 2.576 +- 0.001, on the validation's 2.569 +- 0.001 (mean and standard deviation of
--training.seed=0 to 4: 2.5757 2.5763 2.5753 2.5752 2.5778 and 2.5687 2.5692 2.5709 2.5704 2.5681); knowing nothing is
6 log 2 = 4.159. The true context is above 5 words of noise in 31 % of the examples; at random it is in 17 %. 30 epochs,
18 s a run on 2 CPU cores. What the vectors of seed 0 say (see docs/zoo/word_embeddings.md):

    python -c "import neuralmon as nm; from neuralmon.tasks.word_vectors import WordVectors
    vectors = WordVectors.of(nm.load_run('runs/skipgram_shakespeare').trained)
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

_LISTED = ("father", "heart", "night", "king", "love", "sword", "sea", "queen", "eyes", "gold", "death", "horse")


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.ShakespeareWords(window=4, negatives=5, min_count=10, subsample=1e-3),
        model=nm.models.SkipGram(embedding_dim=64),
        task=nm.tasks.NegativeSampling(neighbours_of=_LISTED),
        optimizer=nm.optim.SGD(learning_rate=nm.optim.Linear(peak=50.0)),
        training=nm.Training(batch_size=4096, epochs=30, evaluate_every=nm.Epochs(10)),
    )
