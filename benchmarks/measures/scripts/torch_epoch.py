"""`cnn_mnist` for some steps, in PyTorch; prints when the last of them was done. Argument: the number of steps."""

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
steps, total, peak = int(sys.argv[1]), 4_290, 2e-3


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


with np.load(Path(__file__).parents[3] / "neuralmon" / "data" / "embedded" / "mnist.npz") as arrays:
    images = torch.from_numpy(arrays["train_images"][:-5_000])[:, None]
    labels = torch.from_numpy(arrays["train_labels"][:-5_000].astype(np.int64))
network = nn.Sequential(
    *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Dropout(0.4), nn.Linear(3136, 256), nn.ReLU(), nn.Dropout(0.4), nn.Linear(256, 10)),
).to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=1e-4, fused=True)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
order = torch.randperm(len(images))
for step in range(steps):
    rows = order[step * 128 : (step + 1) * 128]
    inputs = (shifted(images[rows]) / 255 - 0.1307) / 0.3081
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(network(inputs.contiguous(memory_format=torch.channels_last)), labels[rows])
    loss.backward()
    optimizer.step()
    schedule.step()
loss.item()
print(time.monotonic(), flush=True)
