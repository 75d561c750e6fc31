"""Datasets, the order in which their examples come, and how batches are made of them."""

from neuralmon.data.augment import (
    Augmentation,
    Colour,
    Crop,
    CutMix,
    Cutout,
    Flip,
    Mixup,
    Noise,
    RandomResizedCrop,
    Rotate,
    Shift,
)
from neuralmon.data.dataset import Batch, Column, Dataset, Rows, Spec
from neuralmon.data.images.folder import ImageFolder
from neuralmon.data.images.pokemon import Pokemon
from neuralmon.data.labelled import Facts, LabelledDataset, TableColumn
from neuralmon.data.mnist import Mnist
from neuralmon.data.sequences.digit_strings import DigitStrings
from neuralmon.data.sequences.generated import AddingProblem, CopyMemory
from neuralmon.data.sequences.sequential_mnist import SequentialMnist
from neuralmon.data.sequences.spelt_digits import SpeltDigits
from neuralmon.data.splits import ChronologicalSplit, RandomSplit, Split
from neuralmon.data.tables.arrays import Arrays
from neuralmon.data.tables.csv_dataset import Csv
from neuralmon.data.tables.csv_series import CsvSeries
from neuralmon.data.tables.iris import Iris
from neuralmon.data.tables.moons import Moons
from neuralmon.data.tables.series import Series
from neuralmon.data.tables.sunspots import Sunspots
from neuralmon.data.text.class_folder import TextClassFolder
from neuralmon.data.text.labelled import LabelledText, LabelledTextFacts
from neuralmon.data.text.language_data import TextDataset, TextFacts
from neuralmon.data.text.parallel import Parallel, ParallelFacts
from neuralmon.data.text.parallel_text import ParallelText
from neuralmon.data.text.passages import ShakespearePassages
from neuralmon.data.text.strings import Copy, Reverse, Strings
from neuralmon.data.text.text_csv import TextCsv
from neuralmon.data.text.texts import Shakespeare, TextFile, TextFolder
from neuralmon.data.text.tokenizers import BytePair, Characters, Gpt2, Tokenizer, Words
from neuralmon.data.text.verses import VersesEnEs
from neuralmon.data.text.vocabularies import BytePairVocabulary, CharacterVocabulary, Vocabulary, WordVocabulary
from neuralmon.data.text.words import ShakespeareWords
from neuralmon.data.tfds.dataset import Tfds
from neuralmon.data.tfds.text import TfdsText

__all__ = [
    "AddingProblem",
    "Arrays",
    "Augmentation",
    "Batch",
    "BytePair",
    "BytePairVocabulary",
    "CharacterVocabulary",
    "Characters",
    "ChronologicalSplit",
    "Colour",
    "Column",
    "Copy",
    "CopyMemory",
    "Crop",
    "Csv",
    "CsvSeries",
    "CutMix",
    "Cutout",
    "Dataset",
    "DigitStrings",
    "Facts",
    "Flip",
    "Gpt2",
    "ImageFolder",
    "Iris",
    "LabelledDataset",
    "LabelledText",
    "LabelledTextFacts",
    "Mixup",
    "Mnist",
    "Moons",
    "Noise",
    "Parallel",
    "ParallelFacts",
    "ParallelText",
    "Pokemon",
    "RandomResizedCrop",
    "RandomSplit",
    "Reverse",
    "Rotate",
    "Rows",
    "SequentialMnist",
    "Series",
    "Shakespeare",
    "ShakespearePassages",
    "ShakespeareWords",
    "Shift",
    "Spec",
    "SpeltDigits",
    "Split",
    "Strings",
    "Sunspots",
    "TableColumn",
    "TextClassFolder",
    "TextCsv",
    "TextDataset",
    "TextFacts",
    "TextFile",
    "TextFolder",
    "Tfds",
    "TfdsText",
    "Tokenizer",
    "VersesEnEs",
    "Vocabulary",
    "WordVocabulary",
    "Words",
]
