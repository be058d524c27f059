"""RMPG: published totals, body parts by name and what they are taught, import, export, one flag."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from _refined import HOSTS, PARTS, stirred  # noqa: E402
from tyro.conf import Positional  # noqa: E402

from edgepose import cli, folder, importer, losses, models, recipes, runs, train  # noqa: E402
from edgepose.card import Card, typed  # noqa: E402
from edgepose.codecs.topdown import TopDown  # noqa: E402
from edgepose.models import _identify, _operations, higherhrnet, rmpg, simplebaseline  # noqa: E402
from edgepose.models._operations import Operations  # noqa: E402
from edgepose.models._parsegraph import Refine  # noqa: E402
from edgepose.runtimes.pytorch import runner  # noqa: E402
from edgepose.skeleton import COCO17, CROWDPOSE14, LSP14, MPII16, Skeleton  # noqa: E402

PUBLISHED = {  # million parameters, README of the paper's code
    "simplebaseline-r50-rmpg": 38.0, "simplebaseline-r101-rmpg": 57.0, "hourglass-52-rmpg": 98.0,
    "vitpose-b-rmpg": 117.9,
}  # fmt: skip


@pytest.fixture(autouse=True)
def same_numbers():
    """One thread too: more only wait for one another on networks this small."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def uncounted(monkeypatch):
    """Cards without counting what their networks cost."""
    nothing = Operations(0, 0, 0, 0, 0, 0)
    monkeypatch.setattr(_operations, "operations", lambda *_: nothing)
    monkeypatch.setattr(_identify, "operations", lambda *_: nothing)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name):
    file, _, variant = name.partition("-")
    module = folder.entry("edgepose.models", file)
    with torch.device("meta"):
        net = module.build(module.ARCHS[variant][0])
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(PUBLISHED[name], abs=0.05)


# ── body parts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_body_parts_follow_from_the_names():
    assert COCO17.parts == {
        "upper": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), "lower": (11, 12, 13, 14, 15, 16),
        "upper_left": (0, 1, 3, 5, 7, 9), "upper_right": (0, 2, 4, 6, 8, 10),
        "lower_left": (11, 13, 15), "lower_right": (12, 14, 16),
    }  # fmt: skip
    assert {k: set(v) for k, v in MPII16.parts.items() if "_" in k} == {
        "upper_left": {7, 8, 9, 13, 14, 15}, "upper_right": {7, 8, 9, 10, 11, 12},
        "lower_left": {6, 3, 4, 5}, "lower_right": {6, 2, 1, 0},
    }  # fmt: skip
    assert {k: set(v) for k, v in CROWDPOSE14.parts.items() if "_" in k} == {
        "upper_left": {0, 2, 4, 12, 13}, "upper_right": {1, 3, 5, 12, 13},
        "lower_left": {6, 8, 10}, "lower_right": {7, 9, 11},
    }  # fmt: skip


@pytest.mark.parametrize("skeleton", [COCO17, MPII16, CROWDPOSE14, LSP14])
def test_a_mirrored_person_has_mirrored_parts(skeleton):
    for half in ("upper", "lower"):
        left, right = skeleton.parts[f"{half}_left"], skeleton.parts[f"{half}_right"]
        assert {skeleton.mirror[row] for row in left} == set(right)
        assert {*left, *right} == {*skeleton.parts[half]}


def test_a_skeleton_without_legs_has_no_hierarchy():
    with pytest.raises(ValueError, match="hands has no lower joints"):
        rmpg.named("hierarchy", Skeleton("hands", ("left_hand", "right_hand"), (), (0.1, 0.1)))
    with pytest.raises(ValueError, match="Did you mean 'graph'"):
        rmpg.named("graf", COCO17)


def test_a_network_of_several_fits_the_skeleton_it_is_given(uncounted):
    """By the names of the joints: LSP has as many joints as CrowdPose, in another order and with other parts."""
    for skeleton, parts in ((COCO17, (11, 6, 6, 6, 3, 3)), (LSP14, (8, 6, 5, 5, 3, 3))):
        arch = typed(rmpg.Arch, models.card("rmpg-r18", skeleton).arch, "arch.")
        assert (arch.joints, arch.refine.parts) == (len(skeleton), parts)


def part_maps(arch=HOSTS["simplebaseline"][1], **refine):
    net = simplebaseline.build(replace(arch, refine=Refine(stages=3, parts=PARTS, **refine))).train()
    return net, net(torch.randn(2, 3, 64, 96))


@pytest.mark.parametrize("place", [1, 2, 3])
def test_part_maps_are_as_large_as_the_heatmaps(place):
    _, maps = part_maps(place=place)
    assert [tuple(m.shape) for m in maps] == [(2, k, 16, 24) for k in (*PARTS, 17)]


def test_each_part_is_taught_its_own_joints():
    target, weights = torch.rand(2, 17, 16, 24), torch.ones(2, 17)
    weights[0, 3] = 0
    batch = {"heatmaps_0": target, "weights": weights}
    perfect = [target[:, rows] for rows in COCO17.parts.values()]
    terms = losses.body_parts(perfect, batch, COCO17.parts)
    assert list(terms) == list(COCO17.parts)
    assert all(float(term) == 0 for term in terms.values())
    for joint in range(17):
        wrong = target.clone()
        wrong[1, joint] += 1
        terms = losses.body_parts([wrong[:, rows] for rows in COCO17.parts.values()], batch, COCO17.parts)
        assert {part for part, term in terms.items() if term > 0} == {p for p, r in COCO17.parts.items() if joint in r}
    unseen = [m.clone() for m in perfect]
    unseen[0][0, 3] += 5  # joint 3 of picture 0 has no label
    assert float(losses.body_parts(unseen, batch, COCO17.parts)["upper"]) == 0


def test_children_stand_for_parts_in_the_order_of_the_tree():
    """The loss of the upper body reaches the first child of the supervised root, that of the left leg the first child
    of the second; the other halves learn of it only through context, which is cut here."""
    net, _ = part_maps()
    middle = net.refine.get_submodule("place0")[1]
    for node in (middle, *middle.below):
        for fuse in node.fuse:
            fuse[0].weight.data[:, fuse[0].out_channels :] = 0
    first, second = (node.transform[0][0].weight for node in middle.below)
    for i, own, other in ((0, first, second), (1, second, first), (4, second, first), (2, first, second)):
        net.zero_grad()
        net(torch.randn(2, 3, 64, 96))[i].square().sum().backward()
        assert own.grad is not None and own.grad.abs().sum() > 0, i
        assert other.grad is None or not other.grad.abs().sum() > 0, i


def test_supervision_lowers_the_parts_loss():
    plan, codec = recipes.find("rmpg-small-hierarchy"), TopDown(COCO17, (96, 64))
    loss = train.objective(plan, codec)
    net, _ = part_maps()
    batch = {"heatmaps_0": torch.rand(2, 17, 16, 24) ** 8, "weights": torch.ones(2, 17)}
    optimiser, images = torch.optim.Adam(net.parameters(), lr=3e-3), torch.randn(2, 3, 64, 96)
    seen = []
    for _ in range(12):
        terms = loss(net(images), batch, None)
        assert list(terms) == ["loss", "heatmap_0", *COCO17.parts]
        assert terms["loss"].item() == pytest.approx(sum(v.item() for k, v in terms.items() if k != "loss"), rel=1e-5)
        optimiser.zero_grad()
        terms["loss"].backward()
        assert all(h.weight.grad.abs().sum() > 0 for h in net.refine.heads)
        optimiser.step()
        seen.append({k: v.item() for k, v in terms.items()})
    assert all(seen[-1][part] < 0.9 * seen[0][part] for part in COCO17.parts)


# ── whole ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mirrored_picture_gives_the_mirrored_pose():
    module, arch, _ = HOSTS["efficientlite"]
    net = stirred(module.build(replace(arch, refine=rmpg.named("hierarchy", COCO17))))
    codec = TopDown(COCO17, (64, 64), decode_with="udp")
    (batch,), warps = codec.encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    assert np.array_equal(batch[1], batch[0, :, :, ::-1]), "the crop and its mirror image"
    pose, mirrored = (codec.decode([runner(net)(b)], warps).pose(0) for b in (batch, batch[::-1].copy()))
    rows = list(COCO17.mirror)
    np.testing.assert_allclose(mirrored.scores[rows], pose.scores, rtol=1e-4)
    np.testing.assert_allclose(mirrored.xy[rows] * (-1, 1) + (63, 0), pose.xy, atol=0.01)


def test_heads_are_not_run_after_training():
    net, _ = part_maps()
    for head in net.refine.heads:
        head.register_forward_hook(lambda *_: pytest.fail("a head of the parts was run"))
    assert len(net.eval()(torch.randn(1, 3, 64, 96))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [Refine("attention"), Refine(parts=PARTS)], ids=["attention", "parts"])
def test_export_agrees_and_has_no_heads(how, tmp_path):
    """The graph itself is exported with the smallest network of models/rmpg.py (test_models.py)."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from edgepose.runtimes import onnx as engine

    module, arch, size = HOSTS["simplebaseline"]
    net = stirred(module.build(replace(arch, refine=how)))
    codec = TopDown(COCO17, size[::-1])
    engine.write(Card("simplebaseline-r18", asdict(net.arch), codec), net, tmp_path / "model.onnx")  # compares maps
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert len(graph.output) == 1
    assert not any("heads" in w.name for w in graph.initializer)


def test_an_own_checkpoint_is_imported(tmp_path, monkeypatch, uncounted):
    monkeypatch.setattr(importer, "save", lambda out, card, net: card)
    arch = replace(HOSTS["simplebaseline"][1], refine=Refine("graph", (2,), "refined", place=2))
    torch.save(simplebaseline.build(arch).state_dict(), tmp_path / "own.pth")
    card = importer.import_checkpoint(tmp_path / "own.pth", tmp_path / "out", (256, 192))
    assert typed(simplebaseline.Arch, card.arch, "arch.") == arch
    arch = replace(
        rmpg.ARCHS["r18"][0], joints=16, refine=replace(rmpg.ARCHS["r18"][0].refine, parts=(9, 7, 6, 6, 4, 4))
    )
    torch.save(rmpg.build(arch).state_dict(), tmp_path / "several.pth")
    card = importer.import_checkpoint(tmp_path / "several.pth", tmp_path / "out", (256, 192))
    assert typed(rmpg.Arch, card.arch, "arch.") == arch


@pytest.mark.parametrize(
    ("words", "refine"),
    [
        (["--refine", "graph"], asdict(Refine())),
        (["refine=hierarchy", "arch.refine.place=1"], asdict(Refine(stages=3, parts=PARTS, place=1))),
        (["arch.refine.kind=control"], {"kind": "control"}),
        ([], None),
    ],
)
def test_one_flag_refines_any_recipe(words, refine, monkeypatch, uncounted):
    seen = []

    def run(recipe: Annotated[Positional[str], None], root: Path, out: Path, plan: runs.Plan) -> int:
        seen.append(runs.changed(models.card(plan.model).arch, plan, COCO17)["refine"])
        return 0

    monkeypatch.setattr(runs, "run", run)
    assert cli.main(["train", "simplebaseline-r18-small", "--root", "DATA", "--out", "RUN", *words]) == 0
    assert seen == [refine]


def test_what_cannot_be_refined_says_so():
    with pytest.raises(ValueError, match="no refinement called 'grph'"):
        runs.changed({}, replace(recipes.find("rmpg-small"), refine="grph"), COCO17)
    plan = replace(recipes.find("higherhrnet-w32"), refine="graph")
    arch = runs.changed(asdict(higherhrnet.ARCHS["w32"][0]), plan, COCO17)
    with pytest.raises(ValueError, match=r"no field called 'arch\.refine'"):
        models.build(Card("higherhrnet-w32", arch, TopDown()))
