"""The trials that are kept as runs: written beside the training, in a small part of its time."""

import threading
import time
from collections.abc import Callable, Sequence

from neuralmon.sweeps.best import Ended
from neuralmon.sweeps.folder import SweepFolder
from neuralmon.sweeps.trials import Trials

_SHARE = 0.02  # of the time, at most, while trials are trained


class Keeper:
    """Sees to it that a sweep's folder has the runs that are wanted, and no others.

    While the best trials change often, not all of those are written that were wanted for a while. `close` writes what
    is wanted in the end. What a kill keeps from being written can be trained again, and ends in the same bits.

    Args:
      folder: the sweep's.
      trials: makes experiments of trials.
    """

    def __init__(self, folder: SweepFolder, trials: Trials) -> None:
        self._folder, self._trials = folder, trials
        self._changed = threading.Condition()
        self._wanted: dict[int, Ended] = {}
        folder.drop_halves()
        self._written = set(folder.kept())
        self._closing = self._hurry = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def want(self, ended: Sequence[Ended], wait: bool = False) -> None:
        """Says which trials are to be kept, in place of what was said before; with `wait` they are when it returns."""
        if self._error is not None:
            raise self._error
        with self._changed:
            self._wanted = {one.trial.number: one for one in ended}
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
                self._thread.start()
            self._hurry = wait
            self._changed.notify_all()
            if wait:
                self._changed.wait_for(lambda: self._next() is None or self._error is not None)

    def has(self, number: int) -> bool:
        """Returns whether a trial's run is in the folder."""
        return number in self._written

    def close(self) -> None:
        """Writes what is still to be written and waits for it; raises what kept it from being written."""
        with self._changed:
            self._closing = self._hurry = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            pause = 0.0
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or bool(self._next()))
                    self._changed.wait_for(lambda: self._hurry, timeout=pause)
                    one, ending = self._next(), self._closing
                if one is None:
                    if ending:
                        break
                    continue
                begun = time.monotonic()
                self._folder.keep(self._trials.experiment(one.trial), one.row, one.history, one.state)
                self._written.add(one.trial.number)
                pause = (time.monotonic() - begun) / _SHARE
                if self._next() is None:
                    self._drop(lambda number: number not in self._wanted)
                with self._changed:
                    self._changed.notify_all()
            self._drop(lambda number: number not in self._wanted)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self) -> Ended | None:
        """Returns one that is wanted and not in the folder."""
        wanted = list(self._wanted.values())
        return next((one for one in wanted if one.state is not None and one.trial.number not in self._written), None)

    def _drop(self, which: Callable[[int], bool]) -> None:
        for number in [number for number in self._written if which(number)]:
            self._written.discard(number)
            self._folder.drop(number)
