"""A worker process: `python -m neuralmon.sweeps.executors.worker DESCRIPTOR CORE ...`, which `process.py` starts.

It ends with the process that started it, however that ends: the connection to it is closed then.
"""

import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from neuralmon import process


class ConnectionChannel:
    """Carries what a worker says over a connection, on which the answers come."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._answers = queue.SimpleQueue[Any]()
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, name: str, *arguments: Any) -> Any:
        """See `Channel.ask`."""
        self.tell(name, *arguments)
        return self._answers.get()

    def tell(self, name: str, *arguments: Any) -> None:
        """See `Channel.tell`."""
        self._connection.send((name, arguments))

    def _read(self) -> None:
        try:
            while True:
                self._answers.put(self._connection.recv())
        except (EOFError, OSError):
            os._exit(1)  # nobody is there any more: the thread that trains is not asked


def main(argv: list[str]) -> None:
    """Works for the process at the other end of the connection."""
    descriptor, *cores = map(int, argv)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # before XLA counts them, to make as many threads
    connection = Connection(descriptor)
    job = connection.recv()
    process.adopt(job.settings, job.devices)
    from neuralmon.sweeps.executors.remote import work

    process.begun()
    work(job, ConnectionChannel(connection))


if __name__ == "__main__":
    process.hasten()
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # there is nothing to be put in order
