"""`cnn_mnist` or `mlp_mnist` for some steps, in PyTorch.

Arguments: the number of steps, the network, and "evaluate" if validation and test are to be evaluated at the end.
Prints the seconds that training took, and when everything was done.
"""

import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
steps, name, peak = int(sys.argv[1]), sys.argv[2], 2e-3
total = {"cnn": 4_300, "mlp": steps}[name]


def rate(step: int) -> float:
    """Warm-up over a tenth of the run, then half a cosine."""
    warmup = total // 10
    return step / warmup if step < warmup else (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Returns the images, each moved by up to two pixels."""
    count = len(images)
    padded, offsets = F.pad(images, (2, 2, 2, 2)), torch.randint(0, 5, (2, count, 1))
    rows, columns = (torch.arange(28) + offset for offset in offsets)
    return padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def prepared(images: torch.Tensor) -> torch.Tensor:
    """Returns what the network is given of bytes."""
    inputs = (images / 255 - 0.1307) / 0.3081
    return inputs.contiguous(memory_format=torch.channels_last) if name == "cnn" else inputs


def accuracy(images: torch.Tensor, labels: torch.Tensor) -> float:
    network.eval()
    parts = zip(images.split(1000), labels.split(1000), strict=True)
    with torch.no_grad():
        return sum(int((network(prepared(part)).argmax(1) == right).sum()) for part, right in parts) / len(labels)


with np.load(Path(__file__).parents[3] / "neuralmon" / "data" / "embedded" / "mnist.npz") as arrays:
    images = torch.from_numpy(arrays["train_images"])[:, None]
    labels = torch.from_numpy(arrays["train_labels"].astype(np.int64))
    tests = torch.from_numpy(arrays["test_images"])[:, None], torch.from_numpy(arrays["test_labels"].astype(np.int64))
images, labels, validation = images[:-5_000], labels[:-5_000], (images[-5_000:], labels[-5_000:])
if name == "cnn":
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.4), nn.Linear(3136, 256), nn.ReLU(), nn.Dropout(0.4), nn.Linear(256, 10)),
    ).to(memory_format=torch.channels_last)
else:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 10))
decay = {"cnn": 1e-4, "mlp": 0.3}[name]
optimizer = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=decay, fused=True)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
begun = time.monotonic()
order = torch.randperm(len(images))
for step in range(steps):
    rows = order[step * 128 % len(images) :][:128]
    inputs = shifted(images[rows]) if name == "cnn" else images[rows]
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(network(prepared(inputs)), labels[rows])
    loss.backward()
    optimizer.step()
    schedule.step()
loss.item()
seconds = time.monotonic() - begun
if "evaluate" in sys.argv:
    print(f"accuracy {accuracy(*validation):.4f} {accuracy(*tests):.4f}")
print(seconds, time.monotonic(), flush=True)
