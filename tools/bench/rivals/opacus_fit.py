"""Trains the recipe mnist's model by Opacus as the app did: the same rows, σ, q, steps, learning rates and choice of an epoch."""

import sys
import warnings

import numpy as np
import torch
from opacus import PrivacyEngine
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch import nn
from torch.nn import functional as F

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
held, noise, seed = np.load(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(seed)
batch, rates = int(held["batch"]), held["rates"]
parts = {}
for part in ("train", "validation", "test"):
    images = torch.from_numpy(held[f"{part}_x"].astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()
    parts[part] = images, torch.from_numpy(held[f"{part}_y"].astype(np.int64))


def block(channels, filters):
    return [
        nn.Conv2d(channels, filters, 3, padding="same", bias=False),
        nn.GroupNorm(32, filters, eps=1e-3),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]


network = nn.Sequential(
    *block(1, 32), *block(32, 64), nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Dropout(0.4), nn.Linear(128, 10)
)
for layer in network:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
rows = torch.utils.data.TensorDataset(torch.zeros(len(held["train_y"]), 1))
# Its fastest way here: the hooks keep each example's gradient, 430 MB a step.
model, optimizer, criterion, _ = PrivacyEngine().make_private(
    module=network,
    optimizer=torch.optim.Adam(network.parameters(), eps=1e-7),
    criterion=nn.CrossEntropyLoss(),
    data_loader=torch.utils.data.DataLoader(rows, batch),
    noise_multiplier=noise,
    max_grad_norm=1.0,
    poisson_sampling=False,
    grad_sample_mode="ghost",
)
# It takes the rows divided by the whole number of batches; the app takes the planned batch.
optimizer.expected_batch_size = batch


def scores(part):
    """(mean loss, accuracy)."""
    x, y = parts[part]
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(some) for some in x.split(500)])
    model.train()
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


x, y = parts["train"]
draws = UniformWithReplacementSampler(num_samples=len(x), sample_rate=batch / len(x), steps=len(rates))
an_epoch = -(-len(x) // batch)
best = (float("inf"), 0.0)
model.train()
for step, (rows, rate) in enumerate(zip(draws, rates, strict=True), 1):
    for group in optimizer.param_groups:
        group["lr"] = float(rate)
    optimizer.zero_grad()
    criterion(model(x[rows]), y[rows]).backward()
    optimizer.step()
    if step % an_epoch == 0 or step == len(rates):
        best = min(best, (scores("validation")[0], scores("test")[1]))
print(best[1])
