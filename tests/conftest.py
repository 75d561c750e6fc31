"""Shared fixtures."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

# Before jax starts, and inherited by the tests' processes: what one of them compiled, none compiles again.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="neuralmon-tests-")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest

import neuralmon as nm
from neuralmon import process
from neuralmon.training import pictures

ROOT = Path(__file__).parents[1]

# A worker takes file after file. The longest ones come first, so that both workers end at about the same time.
_FIRST = (
    *("experiments/test_every_experiment.py", "docs/test_data.py", "faults/test_kill.py", "training/test_train.py"),
    *("figures/test_figures.py", "training/test_options.py", "optim/test_optimizers.py", "test_bad_data.py"),
    *("figures/test_worker.py", "models/test_presets.py", "test_errors.py", "data/test_stream.py", "test_codec.py"),
    *("tasks/test_all_tasks.py", "tasks/test_adversarial.py", "ops/test_convolution.py", "test_cli.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / "tests" / name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _no_command() -> Iterator[None]:
    """What `main` sets for a process of its own, it does not set for all tests: they would keep their programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "configure", lambda *_, **__: None)
        yield


_DRAWS = {name: getattr(pictures.Pictures, name) for name in ("begin", "glimpse", "end")}


@pytest.fixture(scope="session", autouse=True)
def _no_figures() -> Iterator[None]:
    """Runs draw no figures, which take seconds, but in tests that are about them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _DRAWS:
            patch.setattr(pictures.Pictures, name, lambda *_, **__: None)
        yield


# Optimising programs would take most of the time. JAX_DISABLE_MOST_OPTIMIZATIONS=0 optimises all. Always optimised are
# those that are compared with other implementations and, as a user's, those of the processes that tests/faults starts.
_OPTIMISED = {"parity"}
# XLA's newer generator of code for CPUs takes more than twice as long as the older one, and what it makes runs for
# moments here. The flag exists in these versions of jaxlib; an unknown one ends the process.
_OLDER_GENERATOR, _OLDER_GENERATOR_JAXLIB = "--xla_cpu_use_fusion_emitters=false", ((0, 10), (0, 12))


def _quickly(directories: Iterable[str] = ()) -> dict[str, str]:
    """Returns the settings that make compiling quick, or none if they were not meant or not known."""
    if "JAX_DISABLE_MOST_OPTIMIZATIONS" in os.environ or _OPTIMISED & set(directories):
        return {}
    version = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
    known = _OLDER_GENERATOR_JAXLIB[0] <= version <= _OLDER_GENERATOR_JAXLIB[1]
    flags = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {_OLDER_GENERATOR}".strip()} if known else {}
    return {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **flags}


def pytest_configure(config: pytest.Config) -> None:
    if flags := _quickly(part for argument in config.args for part in Path(argument).parts).get("XLA_FLAGS"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XLA_FLAGS", flags)
            jax.numpy.zeros(()).block_until_ready()  # reads the flags, which the tests' processes do not inherit


@pytest.fixture(scope="session")
def quick_environment() -> dict[str, str]:
    """That of a test's process whose programs are compiled as in this one."""
    return {**os.environ, **_quickly()}


@pytest.fixture(scope="module", autouse=True)
def _compiles_quickly(request: pytest.FixtureRequest) -> Iterator[None]:
    before = jax.config.values["jax_disable_most_optimizations"]
    if _quickly([request.path.parent.name]):
        jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def drawing() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context in which runs draw figures, for fixtures of modules."""

    @contextlib.contextmanager
    def drawn() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, method in _DRAWS.items():
                patch.setattr(pictures.Pictures, name, method)
            yield

    return drawn


@pytest.fixture
def draws_figures(drawing: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """For tests that are about figures."""
    with drawing():
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def tiny() -> nm.Experiment:
    """A second's training, with dropout and augmentation (tests/tiny.py)."""
    return nm.load_experiment(str(ROOT / "tests" / "tiny.py"))
