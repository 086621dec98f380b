"""Steps of Opacus on the two models of two_models.py, timed on demand.

Each line of standard input names a model and a way, and how many steps to take; the answer is a line with the seconds of
CPU time that they took. Batches are in memory and of a fixed size, and noise is on.
"""

import sys
import time
import warnings

import torch
from opacus import PrivacyEngine
from torch import nn

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
BATCH = int(sys.argv[1])


def network(kind):
    if kind == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
        )
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def made(kind, way):
    model, criterion = network(kind), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    if way == "plain":
        return model, optimizer, criterion
    rows = torch.utils.data.TensorDataset(torch.zeros(60_000, 1), torch.zeros(60_000, dtype=torch.int64))
    model, optimizer, *rest = PrivacyEngine().make_private(
        module=model,
        optimizer=optimizer,
        criterion=criterion,
        data_loader=torch.utils.data.DataLoader(rows, BATCH),
        noise_multiplier=1.1,
        max_grad_norm=1.0,
        poisson_sampling=False,
        grad_sample_mode=way,
    )
    # The ghost way has a loss of its own: it goes back through the model twice.
    return model, optimizer, rest[0] if way == "ghost" else criterion


batches = [(torch.rand(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))) for _ in range(8)]
known = {}
for line in sys.stdin:
    kind, way, steps = line.split()
    if (kind, way) not in known:
        known[kind, way] = made(kind, way)
    model, optimizer, criterion = known[kind, way]
    model.train()
    began = time.process_time()
    for step in range(int(steps)):
        x, y = batches[step % len(batches)]
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    print(time.process_time() - began, flush=True)
