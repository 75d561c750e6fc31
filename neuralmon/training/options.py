"""How a run is carried out, and whether that can be done."""

import dataclasses
from pathlib import Path

from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.training.initial import Inheritance, inherit
from neuralmon.training.profiling import Profile, parse_range
from neuralmon.training.program import compiled
from neuralmon.training.result import abstract_state
from neuralmon.training.run_folder import RunFolder
from neuralmon.training.tracker import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is carried out: what has no influence on its result, but for `init_from` and `init_patterns`.

    Attributes:
      allow_changes: go on with a run although numbers of the experiment (never its structure) have changed.
      init_from: the folder of another run whose parameters this one starts with, as far as they fit.
      init_patterns: which of them: patterns of their paths, such as 'conv_*'.
      profile: steps to profile, "100:110"; what is measured lies in the run's folder `profile/`.
      reference_ops: with the plain definition of every operation in place of its faster form (see `neuralmon.ops`).
      debug_nans: step by step, so that the layer can be named in which something stops being finite.
      figures: draw figures into the run's folder `figures/`.
      writers: where metrics go as well: "wandb", "mlflow".
      data_workers: processes that read data which is streamed; 0: threads of this one; None: as the data needs.
    """

    allow_changes: bool = False
    init_from: str | None = None
    init_patterns: tuple[str, ...] = ("*",)
    profile: str | None = None
    reference_ops: bool = False
    debug_nans: bool = False
    figures: bool = True
    writers: tuple[str, ...] = ()
    data_workers: int | None = None


def check_options(options: Options, workdir: str | Path | None) -> None:
    """Raises RequestError if an option cannot be what it is, whatever the experiment."""
    for name in options.writers:
        require(name)
    if options.writers and workdir is None:
        raise RequestError("writers: they keep their place in a run's folder; give a workdir")
    if options.data_workers is not None and options.data_workers < 0:
        raise RequestError(f"data_workers: {options.data_workers} is out of range: allowed is 0 or more")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What options mean for this run: found before anything is written."""

    profile: Profile | None
    inheritance: Inheritance | None


def prepare(experiment: Experiment, folder: RunFolder | None, options: Options) -> Prepared:
    """Returns what the options mean for this run; RequestError if it cannot be."""
    profile, inheritance = None, None
    if options.profile is not None:
        if folder is None:
            raise RequestError("profile: a trace needs a folder to lie in; give a workdir")
        profile = Profile(*parse_range(options.profile), folder.path / "profile")
        profile.check(experiment.training.num_steps(experiment.dataset.spec().sizes["train"]))
    if options.init_from is not None and not (folder and folder.has_checkpoint):
        inheritance = inherit(
            abstract_state(*compiled(experiment)),
            options.init_from,
            options.init_patterns,
            getattr(experiment.dataset, "vocabulary", None),
        )
    elif options.init_from is None and options.init_patterns != ("*",):
        raise RequestError("--init_patterns says what to take from another run: give --init_from=FOLDER too")
    return Prepared(profile, inheritance)
