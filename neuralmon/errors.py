"""The two kinds of failure a person can mend, told apart by their exit code, and what their messages are made of."""

import difflib
from collections.abc import Iterable


class NeuralmonError(Exception):
    """Base of every error whose message is written for the person at the keyboard."""

    exit_code = 1


class RequestError(NeuralmonError, ValueError):
    """What was asked cannot be done: found before anything is compiled. Exit code 2."""

    exit_code = 2


class RunError(NeuralmonError, RuntimeError):
    """What was asked was sound, but the run failed: diverged, damaged, full disk. Exit code 1."""

    exit_code = 1


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal after saving; `signal` is its number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = number


def first_line(error: BaseException) -> str:
    """Returns an error's message as far as it goes into one line, which has at most 300 characters."""
    return (str(error).strip() or "no message").splitlines()[0][:300]


def did_you_mean(name: str, known: Iterable[str], count: int = 1, prefix: str = "") -> str:
    """Returns " (did you mean ...?)", or "" where nothing known is close."""
    close = [prefix + match for match in difflib.get_close_matches(name, known, n=count)]
    return f" (did you mean {' or '.join(close)}?)" if close else ""
