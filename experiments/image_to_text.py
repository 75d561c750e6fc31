"""An image becomes a text: lines of up to three handwritten digits are written down in words, letter by letter.

    python launch.py --experiment=image_to_text --workdir=runs/image_to_text
    python launch.py --mode=predict --workdir=runs/image_to_text --input=FOLDER_OF_IMAGES

Not measured yet. A CNN looks at the image, the decoder of a Transformer attends to the places of its map and writes
"seven zero two". What counts is `exact_match`, the share of test lines without a wrong letter; test digits are in no
training line. After training, figures/written.png shows images with what was written about them.
"""

import neuralmon as nm

PUBLISHED = nm.Published(metric="exact_match")


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.SpeltDigits(max_length=3, train_size=40_000),
        model=nm.models.Captioner(num_layers=2, num_heads=4, width=64, feedforward_dim=128),
        task=nm.tasks.SequenceToSequence(label_smoothing=0.0, beam_size=1, bleu=False),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=2e-3, warmup=0.1), clip_norm=1.0),
        training=nm.Training(batch_size=64, epochs=4),
    )
