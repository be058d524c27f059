"""Costs of candidates: block by block, and exactly those of the whole network; budgets and latency tables."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgepose import cli, recipes  # noqa: E402
from edgepose.blocktable import blocks, predicted  # noqa: E402
from edgepose.cost import cost  # noqa: E402
from edgepose.models import higherhrnet  # noqa: E402
from edgepose.models.litepose import ARCHS, Arch, LitePose  # noqa: E402
from edgepose.search.cost import Budget, Table, build, price  # noqa: E402
from edgepose.search.plan import Search  # noqa: E402
from edgepose.search.space import PAPER, Candidate, Space, covering  # noqa: E402

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


def test_blocks_are_networks_of_their_own():
    for block in blocks(Arch(blocks=(1, 2, 1, 1)), (128, 192)):
        with torch.inference_mode():
            out = build(block).eval()(torch.randn(1, sum(block.channels), block.height, block.width))
        up = {"deconv": (2, 1), "head": (1, 1)}.get(block.kind, (1, block.stride))
        assert out.shape[1:] == (block.out, *(side * up[0] // up[1] for side in (block.height, block.width)))
    with pytest.raises(ValueError, match="no block called 'pool'"):
        build(replace(block, kind="pool"))


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


def table(tmp_path, candidate):
    found = dict.fromkeys(blocks(candidate.arch, (candidate.size, candidate.size)))
    rows = [{"block": asdict(block), "ms": i / 10 + 0.1, "runs": 20} for i, block in enumerate(found)]
    about = {"engine": "onnx", "machine": {"cpu": "any"}, "threads": 1, "call_ms": 0.03, "blocks": rows}
    path = tmp_path / "table.json"
    networks = [{"ms": ms, "sum_ms": 10.0} for ms in (12.0, 12.5, 15.0)]
    path.write_text(json.dumps({**about, "networks": networks}))
    return path


def test_latency_is_the_sum_of_the_measured_blocks(tmp_path):
    candidate = CANDIDATES[0]
    path = table(tmp_path, candidate)
    budget, size = Budget.parse(f"20ms@{path}"), (candidate.size, candidate.size)
    assert budget(candidate) == pytest.approx(1.25 * predicted(json.loads(path.read_text()), candidate.arch, size))
    assert budget.fits(candidate) == (budget(candidate) <= 20)
    found = Table.read(path)
    assert (found.engine, found.threads, found.scale) == ("onnx", 1, 1.25)
    assert found.error == pytest.approx(1 - 12.5 / 15)
    with pytest.raises(
        ValueError, match=r"lacks Block\(kind='stem', channels=\(3,\).*write one of the whole search space"
    ):
        budget(Candidate(candidate.arch, 64))


def test_tables_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="cannot read the latency table"):
        Budget.parse(f"20ms@{tmp_path}/gone.json")
    for text in ("[]", "{", '{"blocks": [{"block": {"kind": "stem"}}]}', '{"blocks": []}'):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(ValueError, match="is not a latency table"):
            Table.read(tmp_path / "t.json")


def test_few_candidates_have_every_block_of_a_space():
    def parts(candidate):
        return blocks(candidate.arch, (candidate.size, candidate.size))

    small = Space.of(replace(Arch(), blocks=(1, 2, 1, 1)), 256, recipes.find("litepose-xs-supernet").search.space)
    found = covering(small, parts)
    assert {b for c in found for b in parts(c)} == {b for c in small for b in parts(c)}
    assert len(found) < len(small) / 5


def test_a_table_of_a_search_space(tmp_path, monkeypatch):
    """`edgepose bench RECIPE --table FILE`, in PyTorch: every candidate of the space can be priced with it."""
    tiny = replace(
        recipes.find("litepose-xs-supernet"), arch={"blocks": (1, 1, 1, 1)},
        search=Search({"size": (64,), "stem": (8, 16), "channels.1": (16, 32)}),
    )  # fmt: skip
    monkeypatch.setattr(recipes, "find", lambda name: tiny)
    words = ["bench", "litepose-xs-supernet", "--table", str(tmp_path / "t.json"), "--runtime", "pytorch"]
    assert cli.main([*words, "--threads", "1", "--rounds", "1"]) == 0
    budget = Budget.parse(f"20ms@{tmp_path}/t.json")
    arch = replace(Arch(), blocks=(1, 1, 1, 1))
    costs = [budget(c) for c in Space.of(arch, 64, tiny.search.space)]
    assert len(costs) == 4 and min(costs) > 0
