"""The models of the workloads as one would write them for PyTorch. Images come with their channels last."""

import torch
from torch import nn
from torch.nn import functional as F


class Tabular(nn.Module):
    """config: sizes of categories' table and of its vectors, numbers, hidden units, dropout."""

    def __init__(self, categories, width, vectors, numbers, hidden, dropout, outputs):
        super().__init__()
        self.embedding = nn.Embedding(categories, width)
        sizes = [numbers + vectors * width, *hidden]
        layers = []
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))

    def forward(self, x):
        return self.layers(torch.cat([x["numbers"], self.embedding(x["categories"]).flatten(1)], 1))


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.4), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x.permute(0, 3, 1, 2))


def convolution(before, after, stride=1, size=3):
    return nn.Sequential(nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after))


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.inside = nn.Sequential(convolution(before, after, stride), nn.ReLU(), convolution(after, after))
        self.past = convolution(before, after, stride, 1) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.past(x) + self.inside(x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = [(16, 16, 1)] * 3 + [(16, 32, 2), (32, 32, 1), (32, 32, 1)] + [(32, 64, 2), (64, 64, 1), (64, 64, 1)]
        self.first = nn.Sequential(convolution(3, 16, 2), nn.ReLU(), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(*(Block(*size) for size in sizes))
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), nn.Linear(64, 10))

    def forward(self, x):
        return self.last(self.blocks(self.first(x.permute(0, 3, 1, 2))))


class Words(nn.Module):
    """Embedding, and a share of the words left out."""

    def __init__(self, words, rate):
        super().__init__()
        self.embedding, self.rate = nn.Embedding(words, 64), rate

    def forward(self, ids):
        vectors = self.embedding(ids)
        return vectors * F.dropout(torch.ones_like(vectors[..., :1]), self.rate, self.training)


def mean(vectors, weights):
    weights = weights.unsqueeze(-1).to(vectors.dtype)
    return (vectors * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


class Pooled(nn.Module):
    def __init__(self, words=30_000, outputs=4):
        super().__init__()
        self.words, self.last = Words(words, 0.5), nn.Sequential(nn.Dropout(0.5), nn.Linear(64, outputs))

    def forward(self, ids):
        return self.last(mean(self.words(ids), ids.clamp(min=1).float().log()))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.between = nn.LayerNorm(64), nn.LayerNorm(64)
        self.attention = nn.MultiheadAttention(64, 4, dropout=0.1, batch_first=True)
        self.dense = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))

    def forward(self, x, absent):
        y = self.before(x)
        x = x + self.attention(y, y, y, key_padding_mask=absent, need_weights=False)[0]
        return x + self.dense(self.between(x))


class Transformer(nn.Module):
    def __init__(self, length, words=30_000, outputs=4):
        super().__init__()
        self.words, self.places = Words(words, 0.3), nn.Embedding(length, 64)
        self.layers, self.norm = nn.ModuleList([Layer(), Layer()]), nn.LayerNorm(64)
        self.last = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, outputs))

    def forward(self, ids):
        absent = ids == 0
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x, absent)
        return self.last(mean(self.norm(x), ~absent))


def made(name, train):
    """The model of a workload, by the shapes of its training features."""
    if name == "mlp":
        numbers, categories = train["numbers"], train["categories"]
        size = int(categories.max()) + 1
        return Tabular(size, 8, categories.shape[1], numbers.shape[1], [64, 64], 0.3, 2)
    return {
        "cnn": Digits,
        "resnet": ResNet20,
        "pooled": Pooled,
        "transformer": lambda: Transformer(train.shape[1]),
    }[name]()
