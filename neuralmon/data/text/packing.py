"""Rows of tokens, into which short texts are put one behind the other so that little of a batch is padding."""

from collections.abc import Sequence

import numpy as np

_ORDER = 0x7061_636B
_OPEN = 64


def rows_of(lengths: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Returns the number of the row into which each text goes: the first open one with room for it, or a new one.

    Texts come in a random order, always the same one, so that neighbours are not together. So many rows are open that
    the best is hardly better, and so few that looking for one is quick; the fullest makes room for a new one.

    Args:
      lengths: (texts, sides) tokens of each side of a text, at most `room`.
      room: (sides,) tokens of a row.
    """
    order = np.argsort(np.random.PCG64(_ORDER).random_raw(len(lengths)), kind="stable")
    left = np.zeros((_OPEN, len(room)), np.int64)
    numbers, rows, count = np.zeros(_OPEN, np.int64), np.zeros(len(lengths), np.int64), 0
    for text in order.tolist():
        length = lengths[text]
        fitting = (left >= length).all(axis=1)
        slot = int(fitting.argmax())
        if not fitting[slot]:
            slot = int(left.sum(axis=1).argmin())
            left[slot], numbers[slot] = room, count
            count += 1
        rows[text] = numbers[slot]
        left[slot] -= length
    return rows


def filled(texts: Sequence[np.ndarray], rows: np.ndarray, width: int) -> np.ndarray:
    """Returns (number of rows, width) int32: the texts of each row one behind the other, then zeros."""
    found = np.zeros((int(rows.max(initial=-1)) + 1, width), np.int32)
    ends = np.zeros(len(found), np.int64)
    for text, row in zip(texts, rows.tolist(), strict=True):
        found[row, ends[row] : ends[row] + len(text)] = text
        ends[row] += len(text)
    return found
