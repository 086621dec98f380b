"""The training loop that PyTorch's own tutorial teaches, plain, compiled, or by Lightning."""

import sys

import numpy as np
import torch
from stopwatch import Stopwatch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch_models import made

folder, epochs, batch, name, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
torch.set_num_threads(1)
held = np.load(f"{folder}/arrays.npz")


def tensor(array):
    return torch.from_numpy(array.astype(np.int64) if array.dtype.kind == "i" else array)


class Part(Dataset):
    def __init__(self, part):
        names = [key.split("/")[1] for key in held if key.startswith(f"{part}/") and key != f"{part}/"]
        self.x = {key: tensor(held[f"{part}/{key}"]) for key in names} if names else tensor(held[f"{part}/"])
        self.y = tensor(held[f"{part}_labels"])

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {key: column[i] for key, column in self.x.items()} if isinstance(self.x, dict) else self.x[i], self.y[i]


train, validation = Part("train"), Part("validation")
loaders = DataLoader(train, batch, shuffle=True), DataLoader(validation, batch)
model = made(name, train.x)
watch = Stopwatch()


def plain():
    # Whoever compiles for speed also asks for the optimizer's one kernel.
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=how == "compiled")
    network = torch.compile(model) if how == "compiled" else model
    for epoch in range(epochs):
        for data, learning in zip(loaders, (True, False), strict=False):
            model.train(learning)
            total = right = seen = 0
            with torch.set_grad_enabled(learning):
                for x, y in data:
                    logits = network(x)
                    loss = F.cross_entropy(logits, y)
                    if learning:
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                    total += loss.item() * len(y)
                    right += (logits.argmax(1) == y).sum().item()
                    seen += len(y)
                    watch.step()
            print(epoch, total / seen, right / seen, file=sys.stderr)
        watch.epoch()


def lightning():
    import lightning as L
    from torchmetrics.classification import MulticlassAccuracy

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model
            classes = int(train.y.max()) + 1
            self.accuracy, self.val_accuracy = MulticlassAccuracy(classes), MulticlassAccuracy(classes)

        def training_step(self, data, _):
            logits = self.model(data[0])
            self.accuracy(logits, data[1])
            self.log("accuracy", self.accuracy, on_step=False, on_epoch=True, prog_bar=True)
            return F.cross_entropy(logits, data[1])

        def validation_step(self, data, _):
            logits = self.model(data[0])
            self.val_accuracy(logits, data[1])
            self.log("val_accuracy", self.val_accuracy, on_epoch=True, prog_bar=True)
            self.log("val_loss", F.cross_entropy(logits, data[1]), on_epoch=True)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-3)

    class Clock(L.Callback):
        def on_train_batch_end(self, *_):
            watch.step()

        def on_train_epoch_end(self, *_):
            watch.epoch()

    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=[Clock()], default_root_dir=f"{folder}/lightning"
    )
    trainer.fit(Module(), *loaders)


lightning() if how == "lightning" else plain()
watch.tell(len(train))
