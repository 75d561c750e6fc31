"""English verses with their Spanish translations, shipped with the package."""

import dataclasses
import lzma
from importlib import resources

from neuralmon.data.text.parallel import Pairs, Parallel
from neuralmon.errors import RequestError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class VersesEnEs(Parallel):
    """31,044 verses of the Bible in English and Spanish, at most 79 words a side; whole books are held out.

    Books that tell what others tell, in part word for word (the Gospels, Kings and Chronicles, Jude and II Peter), are
    not held out together with their counterpart in the training, or a test would ask for what was learnt by heart.

    Source: public domain (see `embedded/README.md`).

    Attributes:
      validation_books: the books on which settings are chosen: prose, poetry and letters, 897 verses.
      test_books: the books of the test: the same, 882 verses.
    """

    validation_books: tuple[str, ...] = ("Lamentations", "Daniel", "Joel", "Micah", "Philippians", "I John")
    test_books: tuple[str, ...] = ("Ruth", "Esther", "Ecclesiastes", "Jonah", "Galatians", "James", "I Peter")

    def read_pairs(self) -> dict[str, Pairs]:
        """See `Parallel.read_pairs`."""
        rows, splits = read(), {"train": None, "validation": self.validation_books, "test": self.test_books}
        held_out = (*self.validation_books, *self.test_books)
        books = dict.fromkeys(book for book, _, _ in rows)
        if unknown := [book for book in held_out if book not in books]:
            raise RequestError(f"dataset: there is no book {unknown[0]!r}{did_you_mean(unknown[0], books)}")
        if both := set(self.validation_books) & set(self.test_books):
            raise RequestError(f"dataset: {min(both)} is a book of the validation and of the test")
        pairs: dict[str, Pairs] = {}
        for name, own in splits.items():
            chosen = [row for row in rows if (row[0] not in held_out if own is None else row[0] in own)]
            if chosen:
                pairs[name] = [english for _, english, _ in chosen], [spanish for _, _, spanish in chosen]
        return pairs


def read() -> list[tuple[str, str, str]]:
    """Returns (book, English, Spanish) of each verse, in the order of the Bible."""
    path = resources.files("neuralmon.data") / "embedded" / "verses.en-es.tsv.xz"
    lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    rows = (line.split("\t") for line in lines)
    return [(reference.rpartition(" ")[0], english, spanish) for reference, english, spanish in rows]
