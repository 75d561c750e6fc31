"""Worker processes on this machine, each with a device, or of CPUs a core, of its own."""

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO

import jax

from neuralmon.errors import RequestError
from neuralmon.sweeps.coordinator import Coordinator
from neuralmon.sweeps.executors.desk import Answers, Desk
from neuralmon.sweeps.executors.remote import Job
from neuralmon.sweeps.executors.shares import dealt, workers_for

_NUM_DEVICES = r"--xla_force_host_platform_device_count=\d+"
_PAUSE = 0.1  # seconds between two looks at whether the sweep is to stop
_PATIENCE = 10.0  # seconds that a process which has closed its connection has to end
_PER_CORE, _PER_DEVICE = 4, 64  # trials at once; as in `work.default_slots`


@dataclasses.dataclass(frozen=True)
class Seat:
    """What a worker has for itself.

    Attributes:
      cores: of the CPU; none: those of this process.
      environment: variables by which it finds its device and no other.
      slots: how many trials it trains at once.
    """

    cores: tuple[int, ...]
    environment: dict[str, str]
    slots: int


@dataclasses.dataclass(frozen=True)
class _Member:
    """A worker process, and what it prints."""

    process: subprocess.Popen
    connection: Connection
    printed: IO[bytes]

    def kill(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.printed.close()

    def ended(self) -> str:
        """Waits for the end of the process and returns how it ended."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE)
        self.process.kill()
        code = self.process.wait()
        self.printed.seek(0)
        lines = [line.strip() for line in self.printed.read().decode(errors="replace").splitlines()]
        self.printed.close()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = next((line for line in reversed(lines) if line), "")
        return how if not last or code in (0, -signal.SIGKILL, -signal.SIGTERM) else f"{how}: {last:.200}"


class ProcessExecutor:
    """Trains in worker processes. One that dies is replaced; all of them end with this process, however it ends.

    Args:
      workers: how many; None: one per device or core.
      slots: how many trials train at the same time, in all of them; None: as many as are sensible.

    Raises:
      RequestError: this machine's devices are not such that each can have a process.
    """

    def __init__(self, workers: int | None, slots: int | None) -> None:
        if not hasattr(signal, "pthread_sigmask"):
            raise RequestError("executor=process: worker processes need Linux or macOS; leave it out")
        with _little_memory():
            devices = jax.local_devices()
        self._platform, self._devices = devices[0].platform, len(devices)
        if self._platform == "tpu":
            raise RequestError("executor=process: TPUs belong to one process; leave it out: a sweep uses all of them")
        self._asked = workers
        places = len(_cores()) if self._platform == "cpu" else self._devices
        self.slots = slots or places * (_PER_CORE if self._platform == "cpu" else _PER_DEVICE)
        self.workers = min(workers or places, self.slots)

    def run(self, coordinator: Coordinator) -> int:
        """See `Executor.run`."""
        seats = self._seats(workers_for(coordinator, self.workers, self._asked))
        job = Job.of(coordinator.trials, coordinator.searcher)
        desk, members = Desk(coordinator, len(seats)), dict[int, _Member]()
        try:
            for number, seat in enumerate(seats):
                desk.expect(number)
                members[number] = _started(seat, job)
            while members and not coordinator.stop():
                for number in _speaking(members):
                    try:
                        name, arguments = members[number].connection.recv()
                    except (EOFError, OSError):
                        how = members.pop(number).ended()
                        if number in desk.busy:
                            successor = number + len(seats)
                            _send(desk.lost(number, how, successor), members)
                            members[successor] = _started(seats[number % len(seats)], job)
                    else:
                        _send(desk.call(number, name, arguments), members)
        finally:
            for member in members.values():
                member.kill()
        return desk.compilations

    def _seats(self, count: int) -> list[Seat]:
        """Deals cores and slots out evenly; every worker has a device."""
        slots = dealt(self.slots, count)
        if self._platform == "cpu":
            cores = _cores()
            shares = [tuple(cores[index::count]) or (cores[index % len(cores)],) for index in range(count)]
            return [Seat(own, {}, number) for own, number in zip(shares, slots, strict=True)]
        name = "CUDA_VISIBLE_DEVICES" if self._platform in ("gpu", "cuda") else "ROCR_VISIBLE_DEVICES"
        there = [one for one in os.environ.get(name, "").split(",") if one] or [*map(str, range(self._devices))]
        return [Seat((), {name: there[index % len(there)]}, number) for index, number in enumerate(slots)]


def _started(seat: Seat, job: Job) -> _Member:
    here, there = Pipe()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(job.paths), **seat.environment}
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    environment["XLA_FLAGS"] = re.sub(_NUM_DEVICES, "", environment.get("XLA_FLAGS", ""))
    printed = tempfile.TemporaryFile()  # noqa: SIM115
    command = [sys.executable, "-P", "-m", "neuralmon.sweeps.executors.worker", str(there.fileno())]
    with there, _undisturbed():
        process = subprocess.Popen(
            [*command, *map(str, seat.cores)], env=environment, pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL, stdout=printed, stderr=printed,
        )  # fmt: skip
    with contextlib.suppress(OSError):  # it is dead already, which is found out next
        here.send(dataclasses.replace(job, slots=seat.slots, devices=max(1, len(seat.cores))))
    return _Member(process, here, printed)


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """Devices that jax begins to use within it give their memory to whoever needs it: to the workers, not to this."""
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    if name in os.environ:
        yield
        return
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """What is started within it never sees Ctrl-C, which a terminal sends to all: who started it decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _speaking(members: dict[int, _Member]) -> list[int]:
    """Waits for a moment and returns who has said something, or has ended."""
    there = wait([member.connection for member in members.values()], _PAUSE)
    return [number for number, member in members.items() if member.connection in there]


def _send(answers: Answers, members: dict[int, _Member]) -> None:
    for number, answer in answers:
        if number in members:
            with contextlib.suppress(OSError):  # it is dead, which is found out next
                members[number].connection.send(answer)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]
