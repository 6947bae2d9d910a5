"""Networks of sequences in plain torch: text recogniser, taggers, a selective scan, a greedy decoder.

In: sizes. Out: `nn.Module`s with torch's initial weights. What transformers has is taken from there
(benchmarks/architectures/language.py).
"""

from __future__ import annotations

import torch
from torch import nn


class TextRecogniser(nn.Module):
    """CRNN (Shi et al. 2015): convolutions down to one line, then a bidirectional GRU and a bidirectional LSTM."""

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d((4, 1)),
            nn.Conv2d(2 * width, 2 * width, (4, 1)), nn.ReLU(),
        )  # fmt: skip
        self.gru = nn.GRU(2 * width, hidden, bidirectional=True)
        self.lstm = nn.LSTM(2 * hidden, hidden, bidirectional=True)
        self.last = nn.Linear(2 * hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = self.convolutions(x).squeeze(2).permute(2, 0, 1)
        y, _ = self.lstm(self.gru(steps)[0])
        return torch.log_softmax(self.last(y), 2)


class GreedyDecoder(nn.Module):
    """Words one after the other until the end word or a limit: a loop with a condition on data and an if in it.

    `forward` has to be scripted; only the legacy exporter knows scripts.
    """

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.cell = nn.Linear(2 * width, width)
        self.last = nn.Linear(width, words)

    def forward(self, state: torch.Tensor, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
        word = torch.zeros([1], dtype=torch.int64)
        total = torch.zeros([1])
        count = torch.zeros([1], dtype=torch.int64)
        for _ in range(limit):
            if int(word) != 1:
                state = torch.tanh(self.cell(torch.cat([self.table(word), state], 1)))
                scores = torch.log_softmax(self.last(state), 1)
                word = scores.argmax(1)
                total = total + scores.max()
                count = count + 1
        return total, count


class Tagger(nn.Module):
    """A class for each word, from a two-layer recurrent network; `kind` is nn.LSTM or nn.GRU."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU], words: int, width: int, classes: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.steps = kind(width, width, num_layers=2, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * width, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.steps(self.table(ids))[0])
        return result


class SelectiveScan(nn.Module):
    """Mamba's block with its recurrence in closed form, as cumulative sums (Gu & Dao 2023; Dao & Gu 2024)."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.states = states
        self.norm = nn.LayerNorm(width)
        self.inside = nn.Linear(width, 4 * width, bias=False)
        self.convolution = nn.Conv1d(2 * width, 2 * width, 4, padding=3, groups=2 * width)
        self.choose = nn.Linear(2 * width, 2 * states + 1)
        self.rates = nn.Parameter(torch.linspace(-1, 1, 2 * width))
        self.skip = nn.Parameter(torch.ones(2 * width))
        self.outside = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner, gate = self.inside(self.norm(x)).chunk(2, dim=-1)
        inner = self.convolution(inner.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        inner = nn.functional.silu(inner)
        take, give, step = self.choose(inner).split([self.states, self.states, 1], dim=-1)
        step = nn.functional.softplus(step)
        decay = torch.cumsum(-step * torch.exp(self.rates), 1)  # [batch, sequence, channels], as a logarithm
        apart = decay[:, :, None] - decay[:, None]  # [batch, to, from, channels]
        earlier = torch.tril(torch.ones(x.shape[1], x.shape[1]))[None, :, :, None] > 0
        left = torch.where(earlier, torch.exp(apart.clamp(max=0.0)), 0.0)
        likeness = (give @ take.transpose(1, 2))[..., None]
        mixed = (likeness * left * (step * inner)[:, None]).sum(2)
        result: torch.Tensor = self.outside((mixed + self.skip * inner) * nn.functional.silu(gate))
        return x + result


class Experts(nn.Module):
    """Every word goes to the best two of some experts; all of them compute, what was not chosen counts nothing."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.wide = nn.Parameter(0.1 * torch.randn(experts, width, 2 * width))
        self.narrow = nn.Parameter(0.1 * torch.randn(experts, 2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best, places = torch.topk(torch.softmax(self.router(x), -1), 2, dim=-1)
        best = best / best.sum(-1, keepdim=True)
        weights = torch.zeros_like(self.router(x)).scatter(-1, places, best)
        answers = nn.functional.silu(x[None] @ self.wide[:, None]) @ self.narrow[:, None]  # an expert's, of every word
        return x + (answers * weights.permute(2, 0, 1)[..., None]).sum(0)
