"""What the desk does with workers that are fast, slow, or dead; here they are coroutines, and train nothing."""

import random

import pytest

import neuralmon as nm
from neuralmon.sweeps.best import Best
from neuralmon.sweeps.coordinator import Coordinator
from neuralmon.sweeps.executors import make_executor
from neuralmon.sweeps.executors.desk import Desk
from neuralmon.sweeps.executors.shares import dealt
from neuralmon.sweeps.progress import SweepProgress
from neuralmon.sweeps.search import Continue, Report, Stop
from neuralmon.sweeps.search.listed import Listed
from neuralmon.sweeps.trials import Trial

STEPS = 4


class Trials:
    """Makes trials of as many structures as values say."""

    def trial(self, number, values):
        return Trial(number, values, structure=f"s{values['a'] % values.get('structures', 1)}")


class Halving:
    """Ends the worse half of those that report together: who reports with whom decides everything."""

    upfront, joint, total = False, False, None

    def __init__(self, count):
        self.left, self.calls = list(range(count)), []

    def propose(self, count):
        self.calls.append(("propose", count))
        if not self.left:
            return None
        proposed, self.left = self.left[:count], self.left[count:]
        return [{"a": one} for one in proposed]

    def report(self, reports):
        self.calls.append([(one.trial, one.step) for one in reports])
        ranked = sorted((one for one in reports if not one.ended), key=lambda one: one.objective)
        worse = {one.trial for one in ranked[: len(ranked) // 2]}
        return [Stop("worse") if one.trial in worse else Continue() for one in reports]


def objective(number, step):
    return random.Random(1000 * number + step).random()


def worker(slots):
    """Does what `Worker` and `Group` do."""
    live = {}
    while (taken := (yield "take", (slots, None))[0]) is not None:
        while taken or live:
            structure = (taken[0] if taken else next(iter(live.values()))[0]).structure
            assert all(trial.structure == structure for trial in taken)
            live |= {trial.number: [trial, 0] for trial in taken}
            assert len(live) <= slots
            for one in live.values():
                one[1] += 1
            reports = [
                Report(number, step, STEPS, objective(number, step), step == STEPS, {})
                for number, (_, step) in sorted(live.items())
            ]
            decisions = yield "report", (reports,)
            for report, decision in zip(reports, decisions, strict=True):
                if report.ended or isinstance(decision, Stop):
                    trial, step = live.pop(report.trial)
                    row = {"trial": trial.number, "values": dict(trial.values), "step": step, "reason": None}
                    row |= {"status": "finished" if report.ended else "stopped", "objective": report.objective}
                    yield "finish", (trial.number, row, [], None)
            free = slots - len(live)
            taken = ((yield "take", (free, structure))[0] or []) if free else []
    yield "ended", (1,)


def swept(searcher, workers, slots, seed=0, deaths=(), poisoned=()):
    """Returns the coordinator of a sweep whose workers go on in a random order, and how many died.

    One dies at each of the moments `deaths`, and whenever it has a trial that is `poisoned`.
    """
    coordinator = Coordinator(Trials(), searcher, Best("max", 1, 1), None, SweepProgress())
    desk, chance, died = Desk(coordinator, workers), random.Random(seed), 0
    inbox, running, held = {}, {}, {}

    def start(number):
        running[number], inbox[number], held[number] = worker(dealt(slots, workers)[number % workers]), None, set()

    for number in range(workers):
        desk.expect(number)
        start(number)
    moment = 0
    while running:
        moment += 1
        number = chance.choice([number for number in running if number in inbox or moment in deaths])
        if moment in deaths or held[number] & set(poisoned):
            died += 1
            del running[number]
            inbox.pop(number, None)
            answers = desk.lost(number, "killed", number + workers)
            start(number + workers)
        else:
            name, arguments = running[number].send(inbox.pop(number))
            answers = desk.call(number, name, arguments)
            if name == "finish":
                inbox[number] = None
            if name == "ended":
                del running[number]
        for other, answer in answers:
            inbox[other] = answer
            if isinstance(answer, tuple) and answer[0]:
                held[other] |= {trial.number for trial in answer[0]}
    assert desk.compilations == workers
    return coordinator, died


def table(coordinator):
    return [(number, row["status"], row["step"]) for number, row in sorted(coordinator.rows.items())]


@pytest.mark.parametrize("seed", range(12))
def test_a_search_decides_the_same_whoever_is_faster_and_whoever_dies(seed):
    alone, together, dying = Halving(30), Halving(30), Halving(30)
    expected = table(swept(alone, 1, 8)[0])
    assert {status for _, status, _ in expected} == {"finished", "stopped"}
    assert table(swept(together, 3, 8, seed)[0]) == expected
    coordinator, died = swept(dying, 3, 8, seed, deaths=random.Random(seed).sample(range(4, 70), 2))
    assert died == 2
    reports = [call for call in alone.calls if isinstance(call, list)]
    assert reports == [call for call in together.calls if isinstance(call, list)]
    if "failed" not in {row["status"] for row in coordinator.rows.values()}:  # none was there both times
        assert table(coordinator) == expected
        assert reports == [call for call in dying.calls if isinstance(call, list)]


@pytest.mark.parametrize("seed", range(4))
def test_each_trial_ends_once_and_one_that_kills_its_worker_is_known(seed):
    space = [{"a": a, "structures": 2} for a in range(17)]
    coordinator, died = swept(Listed(space), 3, 9, seed, poisoned={5, 11})
    assert table(coordinator) == [(a, *(("failed", 0) if a in (5, 11) else ("finished", STEPS))) for a in range(17)]
    assert coordinator.rows[5]["reason"] == "2 workers that trained it ended: killed"
    assert 3 <= died <= 4


def test_all_have_as_much_to_do_and_structures_of_their_own():
    for structures, shares in ((1, [3, 2]), (2, [3, 2])):
        searcher = Listed([{"a": a, "structures": structures} for a in range(5)])
        desk = Desk(Coordinator(Trials(), searcher, Best("max", 1, 1), None, SweepProgress()), 2)
        desk.expect(0), desk.expect(1)
        taken = [desk.call(number, "take", (8, None))[0][1][0] for number in (0, 1)]
        assert [len(trials) for trials in taken] == shares
        assert len({trial.structure for trials in taken for trial in trials}) == structures


def test_workers_that_never_begin_end_the_sweep():
    desk = Desk(Coordinator(Trials(), Listed([{"a": 1}]), Best("max", 1, 1), None, SweepProgress()), 1)
    desk.expect(0)
    desk.lost(0, "signal SIGSEGV", 1)
    with pytest.raises(nm.RunError, match="no worker comes to the point of asking for work: signal SIGSEGV"):
        desk.lost(1, "signal SIGSEGV", 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("proces",), "did you mean process"),
        ((None, 2), "sweep_workers: there are none without --executor"),
        (("process", 2, 4, "there"), "ray_address: has no effect with executor=process"),
        ((None, None, None, "there"), "ray_address: has no effect without --executor=ray"),
    ],
)
def test_what_is_no_executor_is_said(options, said):
    with pytest.raises(nm.RequestError, match=said):
        make_executor(*options)
