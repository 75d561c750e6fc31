"""How fast a folder of images is examined and decoded, and in how much memory.

  python benchmarks/images.py FOLDER [--workers=0,1,2,auto] [--batch_size=128]

FOLDER is one that `ImageFolder` reads. Each number of `workers` (threads that decode; 0: the one that asks; auto: as
`ImageFiles` chooses) reads all images in two ways: batch by batch in random order, and each split into one array. Each
of them is done by a process of its own, whose peak resident memory is given beside that of one that has only listed the
folder. Files that were read before come from the system's cache.
"""

import argparse
import dataclasses
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from neuralmon.data.dataset import whole
from neuralmon.data.images.files import ImageFiles, find_images
from neuralmon.data.images.folder import ImageFolder


def columns(dataset: ImageFolder) -> list[ImageFiles]:
    return [split["inputs"] for split in dataset.load().values()]


def read(dataset: ImageFolder, how: str, workers: int | None, batch_size: int) -> tuple[float, float, int]:
    """Returns seconds, seconds of processors, and peak resident memory in bytes of this process."""
    sources = [dataclasses.replace(column, workers=workers) for column in columns(dataset)]
    begin, used = time.perf_counter(), time.process_time()
    for column in sources if how != "listing" else ():
        if how == "whole":
            whole(column)
            continue
        order = np.random.default_rng(0).permutation(column.shape[0])
        for start in range(0, len(order), batch_size):
            column[order[start : start + batch_size]]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = peak * (1 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - begin, time.process_time() - used, size


def alone(*arguments: Any) -> tuple[float, float, int]:
    """Calls `read` in a process that has done nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(read, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--workers", default="0,1,2,auto")
    parser.add_argument("--batch_size", type=int, default=128)
    given = parser.parse_args()

    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        dataset = ImageFolder(path=given.folder).resolve()
        seconds.append(time.perf_counter() - begin)
    assert isinstance(dataset, ImageFolder)
    files = find_images(str(Path(given.folder).expanduser())).files
    size = sum(size for _, size in files)
    stored = dataset.spec().stored_bytes()
    print(f"{len(files):,} images, {size / 2**20:,.1f} MiB as files, {stored / 2**20:,.1f} MiB as stored")
    print(f"examine: {seconds[0]:.2f} s the first time, {min(seconds):.2f} s the best of 3")
    base = alone(dataset, "listing", 0, given.batch_size)[2]
    print(f"{'workers':>8} {'way':>8} {'images/s':>10} {'CPU us/image':>13} {'peak MiB':>9} {'above listing':>14}")
    for text in given.workers.split(","):
        workers = None if text == "auto" else int(text)
        for how in ("batches", "whole"):
            elapsed, used, peak = alone(dataset, how, workers, given.batch_size)
            times = f"{len(files) / elapsed:>10,.0f} {1e6 * used / len(files):>13,.0f}"
            print(f"{text:>8} {how:>8} {times} {peak / 2**20:>9,.0f} {(peak - base) / 2**20:>14,.0f}", flush=True)


if __name__ == "__main__":
    main()
