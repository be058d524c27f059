"""RMPG: published totals, a tree that does what its docstring says, the identity at first, body parts by name."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from tyro.conf import Positional  # noqa: E402

from edgepose import cli, folder, importer, losses, models, recipes, runs, train  # noqa: E402
from edgepose.card import Card, typed  # noqa: E402
from edgepose.codecs.topdown import TopDown  # noqa: E402
from edgepose.cost import cost  # noqa: E402
from edgepose.models import efficientlite, hourglass, hrnet, litepose, rmpg, simplebaseline, vitpose  # noqa: E402
from edgepose.models._parsegraph import (  # noqa: E402
    Node,
    Refine,
    Refinement,
    TokenNode,
    inferred,
    join_tokens,
    split_tokens,
)
from edgepose.runtimes.pytorch import runner  # noqa: E402
from edgepose.skeleton import COCO17, CROWDPOSE14, LSP14, MPII16, Skeleton  # noqa: E402

PUBLISHED = {  # million parameters, README of the paper's code
    "simplebaseline-r50-rmpg": 38.0, "simplebaseline-r101-rmpg": 57.0, "hourglass-52-rmpg": 98.0,
    "vitpose-b-rmpg": 117.9,
}  # fmt: skip
HOSTS = {  # small networks that take a refinement, and a size of their input (h, w)
    "simplebaseline": (simplebaseline, simplebaseline.Arch(17, (1, 1, 1, 1), False, 8, (16, 16, 16)), (64, 96)),
    "hourglass": (hourglass, hourglass.Arch(17, 2, (16,) * 3, (1,) * 3), (64, 64)),
    "hourglass52": (hourglass, hourglass.Arch(17, 2, (16,) * 3, (1,) * 3, True), (64, 64)),
    "vitpose": (vitpose, vitpose.Arch(17, 64, 1, 1, grid=(4, 3), deconv_channels=(16, 16), drop_path=0.0), (64, 48)),
    "vitpose-simple": (vitpose, vitpose.Arch(17, 64, 1, 1, grid=(4, 3), deconv_channels=(), drop_path=0.0), (64, 48)),
    "hrnet": (hrnet, hrnet.Arch(17, 8, 8, (1, 1, 1), ((1, 1), (1, 1, 1), (1, 1, 1, 1))), (64, 64)),
    "litepose": (litepose, litepose.Arch(17, 8, (8,) * 4, (1,) * 4, deconv_channels=(8, 8, 8)), (64, 64)),
    "efficientlite": (efficientlite, efficientlite.Arch(17, 6, (16, 8), (4, 4), 0.0), (64, 64)),
}
ONE_AT_A_TIME = [name for name in HOSTS if name != "litepose"]
KINDS = ["graph", "attention", "control"]
PARTS = rmpg.sizes(COCO17)


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def stirred(net):
    """`net` with everything off its first values, so that nothing is the identity or zero."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.2 * torch.randn_like(p))
        for name, buffer in net.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand_like(buffer) + (0.5 if name.endswith("var") else -0.5))
    return net.eval()


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name):
    file, _, variant = name.partition("-")
    module = folder.entry("edgepose.models", file)
    with torch.device("meta"):
        net = module.build(module.ARCHS[variant][0])
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(PUBLISHED[name], abs=0.05)


@pytest.mark.parametrize("channels", [24, 48, 256])
@pytest.mark.parametrize("gp", [(2, 2), (2, 2, 2), (4,)])
@pytest.mark.parametrize("extra_conv", [False, True])
def test_the_control_costs_what_the_graph_costs(channels, gp, extra_conv):
    class Both(torch.nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.refine = Refinement(Refine(kind, gp, extra_conv=extra_conv), channels)

        def forward(self, images):
            return self.refine(images.new_zeros(1, channels, 16, 12))[0]

    with torch.device("meta"):
        graph, control = (cost(Both(kind), (64, 64)) for kind in ("graph", "control"))
    assert control.params == pytest.approx(graph.params, rel=0.01)
    assert control.macs == pytest.approx(graph.macs, rel=0.01)


WRONG = [
    {"kind": "tree"}, {"gp": ()}, {"gp": (2, 1)}, {"context_on": "both"}, {"place": -1}, {"stages": 0},
    {"parts": (3, 4)}, {"gp": (4,), "parts": PARTS},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_impossible_refinements_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{list(wrong)[-1]} = "):
        Refine(**wrong)


def test_impossible_places_are_refused():
    with pytest.raises(ValueError, match="gp = .* cannot split 30 channels"):
        Refinement(Refine(), 30)
    with pytest.raises(ValueError, match=r"refine\.place is 1 to 3 .* got 4"):
        simplebaseline.Arch(refine=Refine(place=4))
    with pytest.raises(ValueError, match="one person at a time"):
        litepose.Arch(refine=Refine(parts=PARTS))


# ── the tree ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def children(node, x):
    with torch.no_grad():
        return node.tree(x)[1]


@pytest.mark.parametrize("context_on", ["raw", "refined"])
def test_a_child_sees_itself_and_its_siblings_through_context_alone(context_on):
    """Without its sibling's context a child of the root depends on its own channels only."""
    node = stirred(Node(16, Refine(context_on=context_on)))
    x, other = torch.randn(1, 16, 6, 5), torch.randn(1, 8, 6, 5)
    changed = torch.cat([x[:, :8], other], 1)
    (before, _), (after, _) = children(node, x)[0], children(node, changed)[0]
    assert not torch.allclose(before, after, atol=1e-3), "the first child must see the second"
    for fuse in node.fuse:
        fuse[0].weight.data[:, 8:] = 0  # what it reads of the context
    (before, _), (after, _) = children(node, x)[0], children(node, changed)[0]
    assert torch.equal(before, after)


@pytest.mark.parametrize(("context_on", "moves"), [("raw", False), ("refined", True)])
def test_context_is_of_raw_or_of_refined_siblings(context_on, moves):
    """Changing how the second child is refined reaches the first one only if its context comes after refinement."""
    node = stirred(Node(16, Refine(gp=(2,), context_on=context_on)))
    x = torch.randn(1, 16, 6, 5)
    before = children(node, x)[0]
    node.transform[1][0].weight.data += 1.0
    after = children(node, x)[0]
    assert not torch.allclose(before[1], after[1], atol=1e-3)
    assert torch.equal(before[0], after[0]) != moves


@pytest.mark.parametrize("context_on", ["raw", "refined"])
def test_the_context_is_the_mean_of_all_siblings(context_on):
    node, told = stirred(Node(24, Refine(gp=(3,), context_on=context_on))), []
    for module in next(iter(node.context.children())):
        module.register_forward_pre_hook(lambda _, inputs: told.append(inputs[0]))
    x = torch.randn(1, 24, 5, 4)
    children(node, x)
    siblings = x.chunk(3, 1)
    if context_on == "refined":
        with torch.no_grad():
            siblings = [torch.relu(t(f)) for t, f in zip(node.transform, siblings, strict=True)]
    for i, seen in enumerate(told):
        a, b = (s for j, s in enumerate(siblings) if j != i)
        torch.testing.assert_close(seen, (a + b) / 2)
    assert len(told) == 3


def test_levels_of_the_tree():
    found = children(stirred(Node(24, Refine(gp=(3, 2, 2)))), torch.randn(2, 24, 4, 4))
    assert [[tuple(c.shape[:2]) for c in level] for level in found] == [[(2, 8)] * 3, [(2, 4)] * 6, [(2, 2)] * 12]


@pytest.mark.parametrize("context_on", ["raw", "refined"])
def test_attention_equals_a_loop_over_child_and_position(context_on):
    """Every (child, position) pair attends to all of them; results go back to their own child and position."""
    node = stirred(TokenNode(12, Refine("attention", (3, 2), context_on)))
    x = torch.randn(2, 12, 2, 3)
    with torch.no_grad():
        found = node(x)
        refined = torch.cat([child(f) for child, f in zip(node.below, x.chunk(3, 1), strict=True)], 1)
        source = x if context_on == "raw" else refined
        (qkv,) = node.context.values()
        expected = refined.clone()
        for b in range(2):
            q, k, v = {}, {}, {}
            for i in range(2):
                for j in range(3):
                    numbers = qkv(node.norm(source[b, :, i, j]))
                    for child in range(3):
                        q[child, i, j], k[child, i, j], v[child, i, j] = (
                            numbers[12 * part + 4 * child : 12 * part + 4 * child + 4] for part in range(3)
                        )
            for i in range(2):
                for j in range(3):
                    mixed = []
                    for child in range(3):
                        weight = torch.softmax(torch.stack([q[child, i, j] @ k[key] / 2 for key in k]), 0)
                        mixed.append(sum(w * v[key] for w, key in zip(weight, k, strict=True)))
                    expected[b, :, i, j] += node.proj(torch.cat(mixed))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_tokens_are_joined_as_they_were_split():
    x = torch.randn(2, 15, 12)
    assert torch.equal(join_tokens(split_tokens(x, 3), 3), x)
    assert torch.equal(split_tokens(x, 3)[:, :15], x[..., :4]), "the first child's channels come first"


# ── in its hosts ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [*KINDS, "hierarchy"])
@pytest.mark.parametrize("host", HOSTS)
def test_weights_from_before_it_give_the_same_maps(host, kind, tmp_path):
    """The identity at first, in training and after it, whatever the features; `--init` takes the old weights."""
    if kind == "hierarchy" and host not in ONE_AT_A_TIME:
        pytest.skip("bottom-up networks are not taught body parts")
    module, arch, size = HOSTS[host]
    plain = stirred(module.build(arch))
    torch.save({"ema": plain.state_dict()}, tmp_path / "last.ckpt")
    net = module.build(replace(arch, refine=rmpg.named(kind, COCO17)))
    assert sum(p.numel() for p in net.parameters()) > sum(p.numel() for p in plain.parameters())
    runs.start(net, module, tmp_path / "last.ckpt")
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        for mode in (False, True):
            expected, found = plain.train(mode)(images), net.train(mode)(images)
            if kind == "hierarchy":
                assert len(found) == len(expected) * (1 + mode * len(PARTS)), "parts are for training alone"
                found = [m for m in found if m.shape[1] == 17]
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_weights_from_before_it_start_a_network_of_several(tmp_path):
    host, _ = simplebaseline.ARCHS["r18"]
    plain = simplebaseline.build(host).eval()
    torch.save({"ema": plain.state_dict()}, tmp_path / "last.ckpt")
    net = rmpg.build(rmpg.ARCHS["r18"][0]).eval()
    runs.start(net, rmpg, tmp_path / "last.ckpt")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(images)[0], plain(images)[0])


def test_other_gaps_are_still_refused(tmp_path):
    module, arch, _ = HOSTS["simplebaseline"]
    state = module.build(arch).state_dict()
    del state["bn1.weight"]
    torch.save({"ema": state}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="does not fit this network"):
        runs.start(module.build(replace(arch, refine=Refine())), module, tmp_path / "last.ckpt")


@pytest.mark.parametrize("kind", [*KINDS, "hierarchy"])
@pytest.mark.parametrize("host", HOSTS)
def test_every_weight_learns_after_one_step(host, kind):
    """The step takes the refinement off the identity; from then on the loss reaches all of it."""
    if kind == "hierarchy" and host not in ONE_AT_A_TIME:
        pytest.skip("bottom-up networks are not taught body parts")
    module, arch, size = HOSTS[host]
    net = module.build(replace(arch, refine=replace(rmpg.named(kind, COCO17), gp=(2, 2)))).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        outputs = net(torch.randn(2, 3, *size))
        sum((o * torch.randn_like(o)).sum() for o in outputs).backward()
        still = {k for k, p in net.named_parameters() if "refine" in k.split(".") and not p.grad.abs().sum() > 0}
        optimiser.step()
    assert not still


@pytest.mark.parametrize("context_on", ["raw", "refined"])
@pytest.mark.parametrize("kind", [*KINDS, "hierarchy"])
@pytest.mark.parametrize("host", HOSTS)
def test_sizes_are_read_off_the_weights(host, kind, context_on):
    """Place and kind of context too: their names are in the keys. Without refinement the keys are the host's."""
    module, arch, _ = HOSTS[host]
    how = rmpg.named(kind, COCO17) if host in ONE_AT_A_TIME or kind != "hierarchy" else Refine(stages=2)
    how = replace(how, place=int(host not in ("hourglass", "hrnet")))
    if kind != "control":  # which has none
        how = replace(how, context_on=context_on)
    arch = replace(arch, grid=(16, 12)) if module is vitpose else arch
    with torch.device("meta"):
        state, plain = module.build(replace(arch, refine=how)).state_dict(), module.build(arch).state_dict()
    prefix = "refine.0." if host.startswith("hourglass") else "refine."
    assert inferred(state, prefix) == how
    assert module.infer(state).refine == how
    assert module.infer(plain).refine is None
    assert [k for k in state if not k.startswith("refine.")] == list(plain)


def test_every_place_of_the_deconvolutions():
    """Each refines other features; the maps keep their size."""
    _, arch, size = HOSTS["simplebaseline"]
    with torch.device("meta"):
        found = [cost(simplebaseline.build(replace(arch, refine=Refine(place=p))), size) for p in (0, 1, 2, 3)]
    extra = [c.macs - found[1].macs for c in found]
    assert found[0] == found[3]
    assert found[1].params == found[3].params
    once = (found[3].macs - found[2].macs) / 3  # what a place costs grows fourfold
    assert extra[2] == pytest.approx(0.75 * once) and extra[3] == pytest.approx(3.75 * once)


def test_cards_and_recipes_take_it(tmp_path):
    card = models.card("simplebaseline-r50-rmpg")
    card.write(tmp_path)
    again = Card.read(tmp_path)
    assert again == card
    assert typed(simplebaseline.Arch, again.arch, "arch.").refine == Refine(extra_conv=True)
    again.arch["refine"]["gp"] = "two"
    with torch.device("meta"), pytest.raises(ValueError, match=r"arch\.refine\.gp"):
        models.build(again)


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


def test_a_network_of_several_fits_the_skeleton_it_is_given():
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


def test_an_own_checkpoint_is_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(importer, "save", lambda out, card, net: card)
    arch = replace(simplebaseline.ARCHS["r18"][0], refine=Refine("graph", (2,), "refined", place=2))
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
def test_one_flag_refines_any_recipe(words, refine, monkeypatch):
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
    card = models.card("higherhrnet-w32")
    with pytest.raises(ValueError, match=r"no field called 'arch\.refine'"):
        models.build(replace(card, arch=runs.changed(card.arch, plan, COCO17)))
