"""Workers on the machines of a Ray cluster, one per GPU or, where there are none, per CPU.

The coordinator stays in the sweep's own process. Workers are tasks of Ray; what they say lies in an actor on the
sweep's machine (`mailbox.py`), where it is taken. A task that ends before its time, with its process or its machine,
is followed by another one, wherever there is room.
"""

import dataclasses
import logging
import os
import pickle
import time
from typing import Any

from neuralmon import process
from neuralmon.errors import RequestError, first_line
from neuralmon.sweeps.coordinator import Coordinator
from neuralmon.sweeps.executors.desk import Answers, Desk
from neuralmon.sweeps.executors.mailbox import Mailbox
from neuralmon.sweeps.executors.remote import Job, work
from neuralmon.sweeps.executors.shares import dealt, workers_for

_PAUSE = 0.1  # seconds between two looks at whether the sweep is to stop, and which tasks have ended
_PATIENCE = 60.0  # seconds that others wait in a round for a task that has not begun
_PER_CPU, _PER_GPU = 4, 64  # trials at once; as in `work.default_slots`


class MailboxChannel:
    """Carries what a worker says to the mailbox, one message after the other."""

    def __init__(self, worker: int, mailbox: Any) -> None:
        import ray

        self._worker, self._mailbox, self._get = worker, mailbox, ray.get

    def ask(self, name: str, *arguments: Any) -> Any:
        """See `Channel.ask`."""
        return pickle.loads(self._get(self._mailbox.ask.remote(self._worker, pickle.dumps((name, arguments)))))

    def tell(self, name: str, *arguments: Any) -> None:
        """See `Channel.tell`; waits until the message is in the mailbox, since an actor keeps no order."""
        self._get(self._mailbox.tell.remote(self._worker, pickle.dumps((name, arguments))))


class RayExecutor:
    """Trains on a Ray cluster: the one at `address`, or that this machine belongs to, or one of this machine alone.

    neuralmon, at the same version, and the data have to be on all machines.

    Args:
      workers: how many; None: one per GPU or, where there are none, per CPU.
      slots: how many trials train at the same time, in all of them; None: as many as are sensible.
      address: of the cluster.

    Raises:
      RequestError: there is no Ray, or no such cluster.
    """

    def __init__(self, workers: int | None, slots: int | None, address: str | None) -> None:
        try:
            import ray
        except ImportError:
            raise RequestError("executor=ray needs the package ray: pip install 'neuralmon[ray]'") from None
        self._ray, self._address, self._ours = ray, address, not ray.is_initialized()
        self._connect()
        there = ray.cluster_resources()
        self._gpus = bool(there.get("GPU"))
        places = max(1, int(there["GPU"] if self._gpus else there.get("CPU", 1)))
        self.slots = slots or (workers or places) * (_PER_GPU if self._gpus else _PER_CPU)
        self.workers = min(workers or places, self.slots)
        self._asked = workers

    def run(self, coordinator: Coordinator) -> int:
        """See `Executor.run`."""
        ray, count = self._ray, workers_for(coordinator, self.workers, self._asked)
        self._connect()
        job = dataclasses.replace(Job.of(coordinator.trials, coordinator.searcher), settings=self._settings())
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here, max_concurrency=10_000).remote()
        resources = {"num_cpus": 0, "num_gpus": 1} if self._gpus else {"num_cpus": 1}
        task = ray.remote(max_calls=1, max_retries=0, scheduling_strategy="SPREAD", **resources)(_work)
        jobs = [ray.put(dataclasses.replace(job, slots=slots)) for slots in dealt(self.slots, count)]
        desk = Desk(coordinator, count)
        begun, tasks = dict[int, float](), dict[Any, int]()

        def start(number: int) -> None:
            tasks[task.remote(number, jobs[number % count], mailbox, os.environ.get("XLA_FLAGS", ""))] = number
            begun[number] = time.monotonic()

        def answer(answers: Answers) -> None:
            if answers:
                mailbox.answer.remote([(worker, pickle.dumps(one)) for worker, one in answers])

        try:
            for number in range(count):
                desk.expect(number)
                start(number)
            while desk.busy and not coordinator.stop():
                ended, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0)
                # What they said before they ended comes first.
                for worker, message in ray.get(mailbox.said.remote(_PAUSE)):
                    begun.pop(worker, None)
                    answer(desk.call(worker, *pickle.loads(message)))
                for one in ended:
                    number = tasks.pop(one)
                    if number in desk.busy:
                        answer(desk.lost(number, _how(ray, one), number + count))
                        start(number + count)
                for number in [number for number, since in begun.items() if time.monotonic() - since > _PATIENCE]:
                    del begun[number]
                    answer(desk.overlook(number))
        finally:
            for one in tasks:
                ray.cancel(one, force=True)
            ray.kill(mailbox)
            if self._ours:
                ray.shutdown()
        return desk.compilations

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, OSError) as error:
            where = self._address or os.environ.get("RAY_ADDRESS") or "this machine"
            raise RequestError(f"ray_address: no Ray cluster at {where}: {first_line(error)}") from None

    def _settings(self) -> dict[str, Any]:
        # Which devices a machine has, it knows itself.
        return {name: value for name, value in process.settings().items() if name != "jax_platforms" or not self._gpus}


def _work(number: int, job: Job, mailbox: Any, flags: str) -> None:
    """Is what a task does."""
    os.environ["XLA_FLAGS"] = flags
    process.adopt(job.settings, job.devices)
    work(job, MailboxChannel(number, mailbox))


def _how(ray: Any, task: Any) -> str:
    """Returns how a task ended."""
    try:
        ray.get(task)
    except Exception as error:
        cause = getattr(error, "cause", None) or error
        # After the first sentence Ray says what to read.
        return f"{type(cause).__name__}: {first_line(cause).partition('. ')[0]}"
    return "it had nothing to say"
