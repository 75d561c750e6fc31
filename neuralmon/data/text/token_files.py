"""The tokens of a corpus, computed once: in memory, or in a file that is memory-mapped."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from neuralmon.errors import RunError

IN_MEMORY = 2**25  # characters up to which tokens are kept in memory
Tokens = Mapping[str, np.ndarray]  # of each split

_memory: dict[str, Tokens] = {}


def token_type(vocab_size: int) -> np.dtype:
    """Returns the smallest type that holds the tokens and one number more, which stands for none."""
    return np.dtype(np.uint8 if vocab_size < 2**8 else np.uint16 if vocab_size < 2**16 else np.int32)


def stored_tokens(
    key: str,
    tokenise: Callable[[], Iterator[tuple[str, np.ndarray]]],
    characters: int,
    dtype: np.dtype,
    folder: str | None,
) -> Tokens:
    """Returns the tokens of each split, from memory or a file if they have been computed before.

    Args:
      key: says what text was cut into what tokens; another text or vocabulary has another key.
      tokenise: yields (split, tokens) in the order of the text.
      characters: length of the text, which decides whether the tokens stay in memory.
      dtype: of the tokens.
      folder: where files are; None: the user's folder for caches.

    Raises:
      RunError: the file cannot be written.
    """
    if characters <= IN_MEMORY:
        if key not in _memory:
            found: dict[str, list[np.ndarray]] = {}
            for split, tokens in tokenise():
                found.setdefault(split, []).append(tokens.astype(dtype))
            while len(_memory) >= 4:
                del _memory[next(iter(_memory))]
            _memory[key] = {split: np.concatenate(pieces) for split, pieces in found.items()}
        return _memory[key]
    import platformdirs

    place = Path(folder).expanduser() if folder else Path(platformdirs.user_cache_dir("neuralmon")) / "tokens"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    data, index = place / f"{name}.tokens", place / f"{name}.json"
    if not (data.exists() and index.exists()):
        _write(data, index, tokenise, dtype)
    lengths = json.loads(index.read_text())
    ends = np.cumsum(list(lengths.values()))
    whole = np.memmap(data, dtype, mode="r", shape=(int(ends[-1]),))
    return dict(zip(lengths, np.split(whole, ends[:-1]), strict=True))


def _write(data: Path, index: Path, tokenise: Callable[[], Iterator[tuple[str, np.ndarray]]], dtype: np.dtype) -> None:
    lengths: dict[str, int] = {}
    unfinished = data.with_name(f"{data.name}.{os.getpid()}")
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as stream:
                for split, tokens in tokenise():
                    stream.write(tokens.astype(dtype).data)
                    lengths[split] = lengths.get(split, 0) + len(tokens)
            unfinished.replace(data)
            # Written last: where it is, the tokens are whole.
            index.write_text(json.dumps(lengths))
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{data.parent}: the tokens cannot be written: {error.strerror}; see dataset.cache") from None
