"""From nothing to the end of the first training step of the 784-256-10 network, in PyTorch; prints when that was."""

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

with np.load(Path(__file__).parents[3] / "neuralmon" / "data" / "embedded" / "mnist.npz") as arrays:
    images = torch.from_numpy(arrays["train_images"][:-5_000])
    labels = torch.from_numpy(arrays["train_labels"][:-5_000].astype(np.int64))
network = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.3)
rows = torch.randperm(len(images))[:128]
loss = nn.functional.cross_entropy(network((images[rows] / 255 - 0.1307) / 0.3081), labels[rows])
loss.backward()
optimizer.step()
loss.item()
print(time.monotonic(), flush=True)
