"""Cost of a candidate: multiply-adds, parameters, bytes, and latency as a device's table of blocks has it.

All are sums over the same blocks, so that a search can price thousands of candidates a second.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from edgepose import cost
from edgepose.blocktable import Block, blocks
from edgepose.models import litepose
from edgepose.search.space import Candidate
from edgepose.search.supernet import frame

FORM = "1.2gmacs, 4.5gmacs-paper, 4MB, 1.7Mparams or 20ms@TABLE.json"


def build(block: Block) -> nn.Module:
    """A block as one network, over its inputs side by side; freshly initialised.

    Side by side is what the fusion head computes (litepose.py), to rounding, and has the same cost by every count.
    """
    inputs, out = sum(block.channels), block.out
    match block.kind:
        case "stem":
            layers = litepose.conv_bn(3, 32, 3, 2) + litepose.conv_bn(32, 32, 3, 1, 32)
            return nn.Sequential(*layers, *litepose.conv_bn(32, out, 1, act=False))
        case "inverted":
            return litepose.InvertedResidual(inputs, out, block.stride, block.kernel, block.expansion)
        case "deconv":
            k = block.kernel
            pad: dict[str, int] = {"padding": 0 if k == 2 else 1, "output_padding": k % 2}
            deconv = nn.ConvTranspose2d(inputs, out, k, 2, **pad, bias=False)  # type: ignore[arg-type]
            return nn.Sequential(deconv, nn.BatchNorm2d(out), nn.ReLU(inplace=True))
        case "head":
            return litepose.Prediction(inputs, out)
    raise ValueError(f"no block called {block.kind!r}; known: stem, inverted, deconv, head")


@lru_cache(maxsize=1 << 16)
def _block_cost(block: Block) -> cost.Cost:
    with torch.device("meta"):
        network = build(block).eval()
    return cost.cost(network, (block.height, block.width), sum(block.channels))


@lru_cache(maxsize=1 << 16)
def price(candidate: Candidate) -> cost.Cost:
    """Exact cost at a square input: that of the whole network by `edgepose.cost`, a block at a time where it can be."""
    size = (candidate.size, candidate.size)
    if not isinstance(candidate.arch, litepose.Arch):
        return cost.cost(frame(candidate.arch), size)
    parts = [_block_cost(block) for block in blocks(candidate.arch, size)]
    return cost.Cost(sum(c.params for c in parts), sum(c.macs for c in parts), sum(c.macs_paper for c in parts))


@dataclass(frozen=True)
class Table:
    """Latency of every block on one machine, in milliseconds, as `edgepose bench --table` writes it.

    call: what every call of the engine costs with nothing to do, in each of `ms`. scale: the median of whole networks
    that were timed in the same run over the sums of their blocks, which find their weights in the cache and so come out
    too low. error: the largest relative error of a scaled sum against one of these networks.
    """

    engine: str
    machine: str
    threads: int
    call: float
    ms: Mapping[Block, float]
    scale: float
    error: float

    @classmethod
    def read(cls, path: Path) -> Table:
        """From JSON (blocktable.py says what is in it); `ValueError` names the file and what is wrong."""
        try:
            facts = json.loads(path.read_text())
            rows = [
                ({**row["block"], "channels": tuple(row["block"]["channels"])}, row["ms"]) for row in facts["blocks"]
            ]
            ms = {Block(**block): float(ms) for block, ms in rows}
            about = facts["machine"] if isinstance(facts["machine"], str) else json.dumps(facts["machine"])
            ratios = [row["ms"] / row["sum_ms"] for row in facts["networks"]]
            scale = statistics.median(ratios)
            error, call = max(abs(scale / ratio - 1) for ratio in ratios), float(facts["call_ms"])
            return cls(str(facts["engine"]), about, int(facts["threads"]), call, ms, scale, error)
        except OSError as error:
            raise ValueError(f"cannot read the latency table {path}: {error.strerror}") from error
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{path} is not a latency table: {type(error).__name__} {error}") from error

    def __call__(self, candidate: Candidate) -> float:
        """Milliseconds of a candidate at a square input: the sum of its blocks with one call for all of them, scaled.

        `ValueError` for a block that was not timed.
        """
        total = self.call
        for block in blocks(candidate.arch, (candidate.size, candidate.size)):
            if block not in self.ms:
                raise ValueError(
                    f"the latency table lacks {block}: write one of the whole search space, "
                    "`edgepose bench RECIPE --table FILE`"
                )
            total += self.ms[block] - self.call
        return total * self.scale


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
