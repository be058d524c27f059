"""Cost of a candidate: multiply-adds, parameters, bytes, and latency as a device's table of blocks has it.

All are sums over the same blocks, so that a search can price thousands of candidates a second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgepose import cost
from edgepose.models import litepose
from edgepose.search.space import Candidate
from edgepose.search.supernet import frame

FORM = "1.2gmacs, 4.5gmacs-paper, 4MB, 1.7Mparams or 20ms@TABLE.json"


@dataclass(frozen=True)
class Block:
    """A piece of LitePose: channels in and out, kernel, expansion and stride; height and width of its input.

    kind: "stem"; "inverted", an inverted residual; "deconv", an upsampling step over the refined and the raw features
    side by side; "head", the two prediction heads of an output over theirs. Side by side is what the fusion head
    computes (litepose.py), to rounding, and has the same cost by every count.
    """

    kind: str
    inputs: int
    outputs: int
    kernel: int
    expansion: int
    stride: int
    height: int
    width: int

    def build(self) -> nn.Module:
        """The block as a network from (n, inputs, height, width); freshly initialised."""
        match self.kind:
            case "stem":
                first = (
                    nn.Sequential(*litepose.conv_bn(3, 32, 3, 2)),
                    nn.Sequential(*litepose.conv_bn(32, 32, 3, 1, 32)),
                )
                return nn.Sequential(*first, *litepose.conv_bn(32, self.outputs, 1, act=False))
            case "inverted":
                return litepose.InvertedResidual(self.inputs, self.outputs, self.stride, self.kernel, self.expansion)
            case "deconv":
                pad = {"padding": 0 if self.kernel == 2 else 1, "output_padding": self.kernel % 2, "bias": False}
                deconv = nn.ConvTranspose2d(self.inputs, self.outputs, self.kernel, 2, **pad)  # type: ignore[arg-type]
                return nn.Sequential(deconv, nn.BatchNorm2d(self.outputs), nn.ReLU(inplace=True))
            case "head":
                return litepose.Prediction(self.inputs, self.outputs)
        raise ValueError(f"no block called {self.kind!r}; known: stem, inverted, deconv, head")

    def row(self) -> dict[str, Any]:
        """The block as a row of a latency table."""
        facts = asdict(self)
        return {"kind": facts.pop("kind"), "in": facts.pop("inputs"), "out": facts.pop("outputs"), **facts}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Block:
        """The block of a row."""
        names = ("in", "out", "kernel", "expansion", "stride", "height", "width")
        return cls(str(row["kind"]), *(int(row[name]) for name in names))


def blocks(arch: litepose.Arch, height: int, width: int) -> list[Block]:
    """The blocks of a LitePose for an input of `height` x `width` pixels, in the order they run."""
    found = [Block("stem", 3, arch.stem, 3, 1, 2, height, width)]
    inputs, h, w = arch.stem, height // 2, width // 2
    for outputs, count, stride, kernel in zip(arch.channels, arch.blocks, arch.strides, arch.kernels, strict=True):
        for i in range(count):
            by = stride if i == 0 else 1
            found.append(Block("inverted", inputs, outputs, kernel, arch.expansion, by, h, w))
            inputs, h, w = outputs, -(-h // by), -(-w // by)
    raw = (*arch.channels[2::-1], arch.stem)
    for i, (outputs, kernel) in enumerate(zip(arch.deconv_channels, arch.deconv_kernels, strict=True)):
        found.append(Block("deconv", inputs + arch.fusion * raw[i], outputs, kernel, 1, 2, h, w))
        inputs, h, w = outputs, 2 * h, 2 * w
        if i:
            maps = 2 * arch.joints if i == 1 else arch.joints
            found.append(Block("head", inputs + arch.fusion * raw[i + 1], maps, 5, 1, 1, h, w))
    return found


@lru_cache(maxsize=1 << 16)
def _block_cost(block: Block) -> cost.Cost:
    with torch.device("meta"):
        network = block.build().eval()
    return cost.cost(network, (block.height, block.width), block.inputs)


@lru_cache(maxsize=1 << 16)
def price(candidate: Candidate) -> cost.Cost:
    """Exact cost at a square input: that of the whole network by `edgepose.cost`, a block at a time where it can be."""
    if not isinstance(candidate.arch, litepose.Arch):
        return cost.cost(frame(candidate.arch), (candidate.size, candidate.size))
    parts = [_block_cost(block) for block in blocks(candidate.arch, candidate.size, candidate.size)]
    return cost.Cost(sum(c.params for c in parts), sum(c.macs for c in parts), sum(c.macs_paper for c in parts))


@dataclass(frozen=True)
class Table:
    """Latency of every block on one machine, in milliseconds, by one engine with so many threads."""

    engine: str
    machine: str
    threads: int
    ms: Mapping[Block, float]

    @classmethod
    def read(cls, path: Path) -> Table:
        """From JSON: {"engine", "machine", "threads", "rows": [{"kind", "in", "out", "kernel", "expansion", "stride",
        "height", "width", "ms"}, ...]}; more fields may be there. `ValueError` names the file and what is wrong."""
        try:
            facts = json.loads(path.read_text())
            ms = {Block.of(row): float(row["ms"]) for row in facts["rows"]}
            machine = facts["machine"] if isinstance(facts["machine"], str) else json.dumps(facts["machine"])
            return cls(str(facts["engine"]), machine, int(facts["threads"]), ms)
        except OSError as error:
            raise ValueError(f"cannot read the latency table {path}: {error.strerror}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a latency table: {type(error).__name__} {error}") from error

    def __call__(self, candidate: Candidate) -> float:
        """Milliseconds of a candidate at a square input; `ValueError` for a block that was not measured."""
        total = 0.0
        for block in blocks(candidate.arch, candidate.size, candidate.size):
            if block not in self.ms:
                raise ValueError(f"the latency table of {self.engine} on {self.machine} lacks the block {block.row()}")
            total += self.ms[block]
        return total

    def errors(self, whole: Sequence[tuple[Candidate, float]]) -> list[float]:
        """Relative errors of the sums against the milliseconds of whole networks, positive where a sum is too high."""
        return [self(candidate) / ms - 1 for candidate, ms in whole]


@dataclass(frozen=True)
class Budget:
    """The most that a candidate may cost. text: as it was written. table: for milliseconds."""

    text: str
    unit: str
    limit: float
    table: Table | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """1.2gmacs (true multiply-adds at a square input / 1e9; gmacs-paper: as the LitePose paper counts), 1.7Mparams,
        4MB (1e6 bytes, weights as float32), 20ms@TABLE.json. `ValueError` for anything else."""
        amount, at, file = text.partition("@")
        match = re.fullmatch(r"([\d.]+) *(gmacs-paper|gmacs|mb|mparams|ms)", amount.strip(), re.IGNORECASE)
        number = match[1] if match and match[1].count(".") < 2 and match[1] != "." else ""
        unit = match[2].lower() if match else ""
        if not number or float(number) <= 0 or (unit == "ms") != bool(at):
            raise ValueError(f"a budget is like {FORM}; got {text!r}")
        return cls(text, unit, float(number), Table.read(Path(file)) if at else None)

    def __call__(self, candidate: Candidate) -> float:
        """What a candidate costs, in the unit of the budget."""
        if self.table:
            return self.table(candidate)
        found = price(candidate)
        return {
            "gmacs": found.macs / 1e9,
            "gmacs-paper": found.macs_paper / 1e9,
            "mparams": found.params / 1e6,
            "mb": 4 * found.params / 1e6,
        }[self.unit]

    def fits(self, candidate: Candidate) -> bool:
        """Whether the candidate is within the budget."""
        return self(candidate) <= self.limit
