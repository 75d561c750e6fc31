"""The process's settings: XLA flags, devices, compilation cache, garbage collection.

Applied by the command line and by nothing else, before jax is imported; importing neuralmon changes none of them.
Nothing the user has set is overridden, and `describe` lists what is in force.
"""

import contextlib
import functools
import gc
import inspect
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from neuralmon.errors import RequestError

# XLA:CPU runs a convolution that it hands to YNNPACK on one thread; kept for itself, on all of them.
_XLA_FLAGS = {"xla_cpu_experimental_ynn_fusion_type": "-individual_convolution"}
# The flag exists from the first of these jaxlib versions to the last that was tried; unknown flags end the process.
_XLA_FLAGS_JAXLIB = ((0, 10), (0, 12))
# Every program is kept, however small or quickly compiled. Without a maximal size: with one, jax keeps an index beside
# the programs that a kill in the middle of writing breaks for good.
_CACHE = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
# Which devices a process has is its own affair.
_OF_ONE_PROCESS = {"jax_num_cpu_devices", "jax_cuda_visible_devices", "jax_rocm_visible_devices"}
_started: float | None = None
_mended = False
_anew = False
_collects_later = False


def hasten() -> None:
    """Leaves garbage alone until `begun`: imports and traces make none, and looking for it is a tenth of their time."""
    global _collects_later
    if gc.isenabled():
        gc.disable()
        _collects_later = True


def begun() -> None:
    """Ends what `hasten` did; what there is by now stays to the end of the process and is not looked at again."""
    global _collects_later
    if _collects_later:
        gc.freeze()
        gc.enable()
        _collects_later = False


def configure(devices: int | None = None, all_cores: bool = False) -> None:
    """Sets what makes training on this machine fast, unless the user has set it.

    Args:
      devices: number of CPU devices; None: as the user's settings say.
      all_cores: where nobody says, there is a CPU device for each core.

    Raises:
      RequestError: a setting comes too late or is not possible.
    """
    global _started
    _started = time.monotonic() - _process_age()
    version = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
    flags = os.environ.get("XLA_FLAGS", "")
    if _XLA_FLAGS_JAXLIB[0] <= version <= _XLA_FLAGS_JAXLIB[1]:
        ours = [f"--{name}={value}" for name, value in _XLA_FLAGS.items() if name not in flags]
        os.environ["XLA_FLAGS"] = " ".join([*flags.split(), *ours])
    import jax

    said = "JAX_NUM_CPU_DEVICES" in os.environ or "xla_force_host_platform_device_count" in flags
    if devices is None and all_cores and not said:
        devices = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if devices is not None:
        try:
            jax.config.update("jax_num_cpu_devices", devices)
        except RuntimeError as error:
            raise RequestError(f"--devices={devices}: {error}") from None
    for name, value in _CACHE.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    if not jax.config.values["jax_compilation_cache_dir"]:
        import platformdirs

        jax.config.update("jax_compilation_cache_dir", str(Path(platformdirs.user_cache_dir("neuralmon")) / "xla"))
    _mend_cache()


def _mend_cache() -> None:
    """Makes jax delete an entry of the compilation cache that it cannot read.

    A kill in the middle of writing leaves a truncated entry. jax warns of it, compiles, and does not overwrite what is
    there, so that without this every later launch would warn and compile again. Where jax's internals are not as known
    here, nothing is done.
    """
    global _mended
    try:
        from jax._src import compilation_cache as cache

        read = cache.get_executable_and_time
        known = next(iter(inspect.signature(read).parameters)) == "cache_key" and not hasattr(read, "__wrapped__")
    except (ImportError, AttributeError, ValueError, StopIteration):
        return
    if not known:
        return

    @functools.wraps(read)
    def read_or_delete(cache_key: str, *args: Any, **kwargs: Any) -> Any:
        if _anew:
            return None, None
        try:
            return read(cache_key, *args, **kwargs)
        except Exception:
            import jax

            with contextlib.suppress(OSError):
                Path(jax.config.values["jax_compilation_cache_dir"], f"{cache_key}-cache").unlink(missing_ok=True)
            raise  # jax warns, compiles, and this time stores what it compiled

    cache.get_executable_and_time = read_or_delete
    _mended = True


@contextlib.contextmanager
def compiling_anew() -> Iterator[None]:
    """Within it jax compiles what it has in its cache, too."""
    global _anew
    _anew = True
    try:
        yield
    finally:
        _anew = False


def programs_folder() -> Path | None:
    """Returns where programs are kept for later launches; None: this process is no command, or keeps none."""
    import jax

    values = jax.config.values
    known = _started is not None and _mended and values["jax_enable_compilation_cache"]
    return Path(values["jax_compilation_cache_dir"]) / "launches" if known else None


def settings() -> dict[str, Any]:
    """Returns what jax is set to, for another process to `adopt`; plain data."""
    import jax

    plain = bool | int | float | str | None
    values = {name: value for name, value in jax.config.values.items() if isinstance(value, plain)}
    return {name: value for name, value in values.items() if name not in _OF_ONE_PROCESS}


def adopt(settings: Mapping[str, Any], devices: int) -> None:
    """Sets jax to what `settings` returned elsewhere, and to so many devices, of CPUs; before there are any.

    A cache of compiled programs whose folder is not on this machine is made.
    """
    import jax

    for name, value in settings.items():
        if name in jax.config.values and jax.config.values[name] != value:
            jax.config.update(name, value)
    jax.config.update("jax_num_cpu_devices", devices)
    _mend_cache()


def peak_memory() -> int | None:
    """Returns the most bytes of memory that this process has had; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def started() -> float:
    """Returns the monotonic time at which the command was launched; in a process that is no command, now."""
    return time.monotonic() if _started is None else _started


def describe() -> dict[str, Any]:
    """Returns the settings in force, the versions and the devices."""
    import jax

    packages = ("neuralmon", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "pillow")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: metadata.version(name) for name in packages if _installed(name)},
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "cpus": os.cpu_count(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        **{name: jax.config.values[name] for name in ("jax_compilation_cache_dir", *_CACHE)},
    }


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _process_age() -> float:
    """Seconds since this process was started; where the system does not say, since now."""
    if sys.platform != "linux":
        return 0.0
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
