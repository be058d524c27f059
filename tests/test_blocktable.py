"""The table of block latencies: every block of the networks, and their sum."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from edgepose import cli

torch = pytest.importorskip("torch")
from edgepose import blocktable, models  # noqa: E402
from edgepose.blocktable import Block, blocks, parts, predicted  # noqa: E402
from edgepose.models import litepose  # noqa: E402

SMALL = litepose.Arch(3, 8, (8, 16, 8, 8), (1, 2, 2, 1), kernels=(3, 5, 7, 3), deconv_channels=(8, 8, 8))


@pytest.mark.parametrize("fusion", [True, False])
def test_blocks_run_in_order_are_the_network(fusion):
    net = litepose.build(replace(SMALL, fusion=fusion)).eval()
    size = (128, 192)
    with torch.inference_mode():
        outputs = net(torch.from_numpy(blocktable.picture(size)))
        made = parts(net, size)
        assert [block for block, _, _ in made] == blocks(net.arch, size)
        results = [module(*map(torch.from_numpy, inputs)) for _, module, inputs in made]
    heads = [x for (block, _, _), x in zip(made, results, strict=True) if block.kind == "head"]
    for a, b in zip(heads, outputs, strict=True):
        torch.testing.assert_close(a, b)
    for (block, _, _), x in zip(made, results, strict=True):
        assert x.shape[1] == block.out
        up = {"deconv": 2.0, "head": 1.0}.get(block.kind, 1 / block.stride)
        assert tuple(x.shape[2:]) == (block.height * up, block.width * up)
    assert {id(p) for _, module, _ in made for p in module.parameters()} == {id(p) for p in net.parameters()}


def test_the_sum_counts_one_call():
    arch = litepose.ARCHS["xs"][0]
    mine = blocks(arch, (256, 256))
    assert len(mine) == 1 + 34 + 3 + 2
    rows = [{"block": vars(block) | {"channels": list(block.channels)}, "ms": 0.3} for block in set(mine)]
    table = {"call_ms": 0.1, "blocks": rows}
    assert predicted(table, arch, (256, 256)) == pytest.approx(0.1 + 0.2 * len(mine))
    with pytest.raises(ValueError, match="the table has no Block"):
        predicted(table, arch, (256, 320))


def test_a_table_has_every_block_once(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxscript")
    card = models.card("litepose-xs")
    monkeypatch.setattr(models, "card", lambda name: replace(card, model=name, arch=vars(SMALL)))
    path = tmp_path / "t.json"
    args = ["bench", "litepose-xs", "--table", str(path), "--input", "64x128", "--rounds", "2", "--runtime", "pytorch"]
    assert cli.main(args) == 0
    table = json.loads(path.read_text())
    rows = [Block(**{**row["block"], "channels": tuple(row["block"]["channels"])}) for row in table["blocks"]]
    assert set(rows) == set(blocks(SMALL, (64, 128))) and len(set(rows)) == len(rows)
    assert all(0 < row["ms"] < 100 for row in table["blocks"])
    (net,) = table["networks"]
    assert net["sum_ms"] == pytest.approx(predicted(table, SMALL, (64, 128)), abs=1e-3)
    assert net["error"] == pytest.approx(net["sum_ms"] / net["ms"] - 1, abs=2e-3)
    assert table["engine"] == "pytorch" and table["machine"]["processor"]
    assert "distinct blocks in pytorch" in capsys.readouterr().out
    monkeypatch.undo()
    assert cli.main(["bench", "hrnet-w32", "--table", str(path)]) == 2
    assert "hrnet-w32 is no LitePose" in capsys.readouterr().err
    assert json.loads(path.read_text()) == table


@pytest.mark.parametrize("kind", ["inverted", "deconv"])
def test_blocks_in_onnx_are_the_blocks(kind):
    pytest.importorskip("onnxscript")
    net = litepose.build(SMALL)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    _, module, inputs = next(part for part in parts(net.eval(), (64, 128)) if part[0].kind == kind)
    (found,) = blocktable.ENGINES["onnx"](module, inputs, 2)(inputs)
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.from_numpy(found), module(*map(torch.from_numpy, inputs)), atol=1e-4, rtol=1e-4
        )


def test_calls_take_turns_and_the_slow_one_is_slow():
    said = []
    calls = {
        name: (lambda given, name=name: (said.append(name), time.sleep(0.001 * len(name))), [])
        for name in ("a", "bbbb")
    }
    ms = blocktable.timed(calls, 4)
    assert 3 < ms["bbbb"] / ms["a"] < 5
    assert len({tuple(said[i : i + 6]) for i in range(0, len(said) - 6)}) > 2
    assert np.isfinite(list(ms.values())).all()
