"""Experiment trackers: the metrics, parameters and outcome of a run in Weights & Biases or MLflow.

They are extras: `pip install 'neuralmon[wandb]'` or `'neuralmon[mlflow]'`. Each works in a thread of its own, and one
that fails in the middle of a run is given up, which is said once and again at the end: training goes on.
"""

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuralmon.errors import RequestError, first_line
from neuralmon.training.tracker import Tracker, require
from neuralmon.training.writers import Status

_INIT_SECONDS, _FINISH_SECONDS = 15, 60


class WandB(Tracker):
    """Weights & Biases: into its cloud or server, or, with WANDB_MODE=offline, into the run's folder.

    WANDB_PROJECT, WANDB_ENTITY, WANDB_BASE_URL and its other variables hold. W&B takes steps in ascending order only:
    rows that an earlier launch sent are not sent again.
    """

    name = "wandb"

    def start(self, project: str, parameters: dict[str, Any]) -> str:
        """See `Tracker.start`."""
        import wandb

        settings = wandb.setup().settings
        options: dict[str, Any] = {"console": "off", "silent": True, "finish_timeout": _FINISH_SECONDS}
        if "WANDB_INIT_TIMEOUT" not in os.environ:
            options["init_timeout"] = _INIT_SECONDS
        self._record.setdefault("id", os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:12])
        try:
            logged_in = settings.mode != "online" or wandb.login(prompt=False)
            run = logged_in and wandb.init(
                id=self._record["id"],
                resume="allow",
                reinit="create_new",
                dir=self._folder,
                project=settings.project or project or "neuralmon",
                name=os.environ.get("WANDB_NAME") or self._folder.name,
                settings=wandb.Settings(finish_timeout_raises=True, **options),
            )
        except Exception as error:
            what = f"wandb: no run can be begun ({first_line(error)})"
            raise RequestError(
                f"{what}; to go on without a network set WANDB_MODE=offline, later `wandb sync`"
            ) from None
        if not run:
            raise RequestError("wandb: no API key; run `wandb login` first, or set WANDB_MODE=offline")
        self._run = run
        # Numbers may have been changed for this launch, which --allow_changes permits.
        self._run.config.update(parameters, allow_val_change=True)
        known = self._record.get("step", -1) if self._run.offline else self._run.step - 1
        self._sent = -1 if known is None else known
        if self._run.offline:
            return f"offline, in {self._folder / 'wandb'}; `wandb sync` sends it"
        return str(self._run.url)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """See `Tracker.log`."""
        if step <= self._sent or not numbers:
            return
        self._run.log(numbers, step=step)
        if self._run.offline:
            self._record["step"] = step
            self._save()

    def summarise(self, step: int, numbers: dict[str, float], texts: dict[str, str]) -> None:
        """See `Tracker.summarise`."""
        self._run.summary.update({**numbers, **texts})

    def finish(self, status: Status) -> None:
        """See `Tracker.finish`; 255 is what W&B itself gives a run that Ctrl-C ended."""
        self._run.finish(exit_code={"finished": 0, "failed": 1, "killed": 255}[status])


class MLflow(Tracker):
    """MLflow: the server or database of MLFLOW_TRACKING_URI, or files in `./mlruns`.

    MLFLOW_EXPERIMENT_NAME and its other variables hold. The files are shown by `MLFLOW_ALLOW_FILE_STORE=true mlflow ui
    --backend-store-uri ./mlruns`. MLflow keeps every value that was ever sent: those that an earlier launch sent are
    not sent again, and a parameter that was changed since becomes a tag, `changed.<path>`.
    """

    name = "mlflow"

    def start(self, project: str, parameters: dict[str, Any]) -> str:
        """See `Tracker.start`."""
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (Path.cwd() / "mlruns").as_uri()
        # MLflow writes files only if it is told that this is meant, and would try a dead server for minutes.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        try:
            from mlflow.tracking import MlflowClient

            self._client = MlflowClient(tracking_uri=uri)
            continued = "run_id" in self._record
            if not continued:
                self._record["run_id"] = self._create_run(project)
            self._id = self._record["run_id"]
            run = self._client.get_run(self._id)
            self._client.update_run(self._id, status="RUNNING")
            self._send_parameters(parameters, run.data.params)
        except Exception as error:
            raise RequestError(f"mlflow: no run can be begun at {uri} ({first_line(error)})") from None
        self._known: dict[str, set[int]] = {}
        self._asked = set(run.data.metrics) if continued else set()
        return f"{'continues ' if continued else ''}run {self._id} at {uri}"

    def _create_run(self, project: str) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or project or "neuralmon"
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        return self._client.create_run(experiment, run_name=self._folder.name).info.run_id

    def _send_parameters(self, parameters: dict[str, Any], sent: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        texts = {_key(path): str(value)[:6000] for path, value in parameters.items()}
        new = [Param(path, text) for path, text in texts.items() if path not in sent]
        changed = {path: text for path, text in texts.items() if sent.get(path, text) != text}
        for part in _parts(new, 100):
            self._client.log_batch(self._id, params=part)
        for part in _parts([RunTag(f"changed.{path}", text[:5000]) for path, text in changed.items()], 100):
            self._client.log_batch(self._id, tags=part)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """See `Tracker.log`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_key(tag), number, now, step) for tag, number in numbers.items()]
        for part in _parts([metric for metric in metrics if step not in self._steps(metric.key)], 1000):
            self._client.log_batch(self._id, metrics=part)

    def _steps(self, key: str) -> set[int]:
        """Returns the steps of which an earlier launch recorded this metric."""
        if key in self._asked and key not in self._known:
            self._known[key] = {metric.step for metric in self._client.get_metric_history(self._id, key)}
        return self._known.get(key, set())

    def summarise(self, step: int, numbers: dict[str, float], texts: dict[str, str]) -> None:
        """See `Tracker.summarise`."""
        self.log(step, numbers)
        for name, text in texts.items():
            self._client.set_tag(self._id, _key(name), text[:5000])

    def finish(self, status: Status) -> None:
        """See `Tracker.finish`."""
        self._client.set_terminated(self._id, {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}[status])


_TRACKERS: dict[str, type[Tracker]] = {tracker.name: tracker for tracker in (WandB, MLflow)}


def tracker(
    name: str, folder: Path, project: str, parameters: Mapping[str, Any], notice: Callable[[str], None]
) -> Tracker:
    """Returns the tracker called 'wandb' or 'mlflow', begun (see `Tracker`)."""
    require(name)
    return _TRACKERS[name](folder, project, parameters, notice)


def _key(tag: str) -> str:
    """Returns a tag with nothing in it that MLflow refuses."""
    words = [re.sub(r"[^\w.\- ]", "_", word) for word in tag.split("/")]
    return "/".join("_" if word.strip(".") == "" else word for word in words)[:250]


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
