"""Costs of candidates: block by block, and exactly those of the whole network; budgets and latency tables."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgepose.cost import cost  # noqa: E402
from edgepose.models import higherhrnet  # noqa: E402
from edgepose.models.litepose import ARCHS, Arch, LitePose  # noqa: E402
from edgepose.search.cost import Block, Budget, Table, blocks, price  # noqa: E402
from edgepose.search.space import PAPER, Candidate, Space  # noqa: E402

SPACE = Space.of(ARCHS["prune-l"][0], 512, PAPER)
CANDIDATES = [
    *(replace(c, arch=replace(c.arch, blocks=(2, 1, 2, 1))) for c in map(SPACE.draw, [np.random.default_rng(0)] * 2)),
    Candidate(Arch(kernels=(3, 5, 9, 3), fusion=False, joints=14), 256),
    Candidate(Arch(deconv_kernels=(2, 3, 4), blocks=(1, 2, 3, 4), expansion=3), 128),
]


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_blocks_cost_what_the_whole_network_costs(candidate):
    with torch.device("meta"):
        net = LitePose(candidate.arch)
    assert price(candidate) == cost(net, (candidate.size, candidate.size))


def test_blocks_run_in_a_row():
    arch = Arch(blocks=(1, 2, 1, 1))
    found = blocks(arch, 128, 192)
    assert [b.kind for b in found] == ["stem"] + ["inverted"] * 5 + ["deconv"] * 2 + ["head", "deconv", "head"]
    for block in found:
        assert Block.of({**block.row(), "ms": 1.0}) == block
        with torch.inference_mode():
            out = block.build().eval()(torch.randn(1, block.inputs, block.height, block.width))
        assert out.shape[1] == block.outputs
    assert (found[-1].height, found[-1].width, found[-1].outputs) == (64, 96, 17)
    with pytest.raises(ValueError, match="no block called 'pool'"):
        replace(found[0], kind="pool").build()


def test_other_networks_are_priced_whole():
    found = price(Candidate(higherhrnet.ARCHS["shrink3"][0], 512))
    assert (found.gmacs, found.gmacs_paper) == (7.875, 9.148)


def test_budgets():
    xs = Candidate(*ARCHS["xs"])
    for text, spent in (("0.886gmacs", 0.8857), ("1.2 GMACs-paper", 1.205), ("7MB", 6.704), ("1.7Mparams", 1.676)):
        budget = Budget.parse(text)
        assert budget(xs) == pytest.approx(spent, rel=1e-3)
        assert budget.fits(xs) == (budget.limit >= spent)
    assert not Budget.parse("1.2gmacs-paper").fits(xs)
    for wrong in ("", "1.2", "gmacs", "-1gmacs", "0gmacs", "1.2.3gmacs", "20ms", "4MB@t.json", "20s@t.json"):
        with pytest.raises(ValueError, match=r"a budget is like 1\.2gmacs"):
            Budget.parse(wrong)


def table(tmp_path, candidates, **facts):
    rows = {b: b.row() for c in candidates for b in blocks(c.arch, c.size, c.size)}
    rows = [{**row, "ms": i / 10 + 0.1, "runs": 20} for i, row in enumerate(rows.values())]
    about = {"engine": "onnx", "machine": {"cpu": "any"}, "threads": 1, "rows": rows, **facts}
    path = tmp_path / "table.json"
    path.write_text(json.dumps(about))
    return path, rows


def test_latency_is_the_sum_of_the_measured_blocks(tmp_path):
    candidate = CANDIDATES[0]
    path, rows = table(tmp_path, [candidate])
    budget = Budget.parse(f"20ms@{path}")
    by_hand = sum(
        next(r["ms"] for r in rows if all(r[k] == v for k, v in b.row().items()))
        for b in blocks(candidate.arch, candidate.size, candidate.size)
    )
    assert budget(candidate) == pytest.approx(by_hand)
    found = Table.read(path)
    assert (found.engine, found.threads) == ("onnx", 1)
    assert found.errors([(candidate, by_hand / 1.25), (candidate, by_hand * 2)]) == pytest.approx([0.25, -0.5])
    with pytest.raises(ValueError, match=r"lacks the block \{'kind': 'stem', 'in': 3"):
        budget(Candidate(candidate.arch, 64))


def test_tables_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="cannot read the latency table"):
        Budget.parse(f"20ms@{tmp_path}/gone.json")
    for text in ("[]", "{", '{"rows": [{"kind": "stem"}]}', '{"rows": []}'):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(ValueError, match="is not a latency table"):
            Table.read(tmp_path / "t.json")
