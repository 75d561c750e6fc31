"""Compiles the native part of the package, where there is a C++ compiler; without one the package is as good, slower.

    python hatch_build.py        # in a clone, with jax installed

`pip install` calls it by itself. CXX names another compiler; NEURALMON_NATIVE=0 leaves the native part out.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

NATIVE = Path(__file__).parent / "neuralmon" / "ops" / "native"
FLAGS = ("-std=c++20", "-O3", "-fPIC", "-ffp-contract=fast")
# Flags, floats in a vector and vector registers of each instruction set.
LEVELS: dict[str, tuple[tuple[str, ...], int, int]] = {"kPortable": ((), 4, 16)}
if platform.machine().lower() in ("x86_64", "amd64"):
    LEVELS["kAvx2"] = (("-mavx2", "-mfma"), 8, 16)
    avx512 = tuple(f"-mavx512{part}" for part in ("f", "vl", "dq", "bw"))
    LEVELS["kAvx512"] = (("-mavx2", "-mfma", *avx512), 16, 32)


def compiler() -> str | None:
    """Returns the C++ compiler, if one is to be used."""
    if os.environ.get("NEURALMON_NATIVE") == "0" or sys.platform == "win32":
        return None
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))), None)


def build() -> Path:
    """Compiles the library into the package's folder and returns it; raises what a failed command raises."""
    cxx = compiler()
    if cxx is None:
        raise FileNotFoundError("there is no C++ compiler: neither g++ nor clang++")
    native = _native()
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("there is no jaxlib, whose headers are needed")
    include = Path(spec.origin).parent / "include"
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        jobs = []
        for level, (flags, lanes, registers) in LEVELS.items():
            defines = (f"-DLEVEL={level}", f"-DLANES={lanes}", f"-DREGISTERS={registers}")
            for source in ("kernels", "attention_kernels", "lstm_kernels", "batch_norm_kernels"):
                jobs.append((f"{source}_{level}.o", f"{source}.cc", (*flags, *defines)))
        digest = f'-DNEURALMON_SOURCES="{native.digest(NATIVE)}"'
        jobs.append(("levels.o", "levels.cc", (digest,)))
        for source in ("convolution", "attention", "lstm", "batch_norm"):
            jobs.append((f"{source}.o", f"{source}.cc", ("-isystem", str(include))))

        def compiled(job: tuple[str, str, tuple[str, ...]]) -> str:
            name, source, flags = job
            target = str(Path(folder, name))
            subprocess.run([cxx, *FLAGS, *flags, "-c", str(NATIVE / source), "-o", target], check=True)
            return target

        objects = list(pool.map(compiled, jobs))
        library = NATIVE / native.LIBRARY
        made = Path(folder, library.name)
        subprocess.run([cxx, "-shared", *objects, "-o", str(made)], check=True)
        # Not written over, but replaced: a process may have the old one open.
        partial = library.with_suffix(".partial")
        shutil.copy(made, partial)
        partial.replace(library)
    return library


def _native() -> Any:
    """The module that knows the library's name and sources; the package itself may lack what it needs."""
    spec = importlib.util.spec_from_file_location("neuralmon_native_files", NATIVE / "files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # as a command
    BuildHookInterface = object


class NativeBuildHook(BuildHookInterface):
    """What hatchling calls before it packs a wheel, an editable one too."""

    def dependencies(self) -> list[str]:
        """Returns what building needs: jaxlib, for its headers, if anything is to be compiled."""
        return ["jaxlib>=0.10"] if self.target_name == "wheel" and compiler() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles and adds the library to the wheel; says why if it cannot."""
        try:
            library = build()
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"neuralmon goes without its native operations: {error}")
            return
        build_data["artifacts"].append(str(library.relative_to(self.root)))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"


def _platform() -> str:
    from packaging.tags import platform_tags

    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))


if __name__ == "__main__":
    try:
        print(build())
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"neuralmon's native part cannot be compiled: {error}")
