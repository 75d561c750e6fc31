"""The two kinds of failure a person can mend, told apart by their exit code."""


class NeuralmonError(Exception):
    """Base of every error whose message is written for the person at the keyboard."""

    exit_code = 1


class RequestError(NeuralmonError, ValueError):
    """What was asked cannot be done: found before anything is compiled. Exit code 2."""

    exit_code = 2


class RunError(NeuralmonError, RuntimeError):
    """What was asked was sound, but the run failed: diverged, damaged, full disk. Exit code 1."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Returns an error's message as far as it goes into one line, which has at most 300 characters."""
    return (str(error).strip() or "no message").splitlines()[0][:300]
