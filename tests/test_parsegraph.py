"""The parse graph of feature maps: a tree that does what its docstring says, the identity at first, in every host."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from _refined import HOSTS, KINDS, ONE_AT_A_TIME, PARTS, idle, stirred  # noqa: E402

from edgepose import models, runs  # noqa: E402
from edgepose.card import Card, typed  # noqa: E402
from edgepose.cost import cost  # noqa: E402
from edgepose.models import litepose, rmpg, simplebaseline, vitpose  # noqa: E402
from edgepose.models._parsegraph import (  # noqa: E402
    Node,
    Refine,
    Refinement,
    TokenNode,
    inferred,
    join_tokens,
    split_tokens,
)
from edgepose.skeleton import COCO17  # noqa: E402


@pytest.fixture(autouse=True)
def same_numbers():
    """One thread too: more only wait for one another on networks this small."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def alone(kind, gp=(2, 2), extra_conv=False, channels=24):
    """A network of nothing but a refinement of `channels` channels, on features of 16x12; without numbers."""

    class Alone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.refine = Refinement(Refine(kind, gp, extra_conv=extra_conv), channels)

        def forward(self, images):
            return self.refine(images.new_zeros(1, channels, 16, 12))[0]

    with torch.device("meta"):
        return Alone()


def weights_of(net):
    """Parameters, and multiply-adds where every convolution runs once at every position."""
    kernels = sum(m.weight.numel() for m in net.modules() if isinstance(m, torch.nn.Conv2d))
    return sum(p.numel() for p in net.parameters()), kernels * 16 * 12


@pytest.mark.parametrize("channels", [24, 48, 256])
@pytest.mark.parametrize("gp", [(2, 2), (2, 2, 2), (4,)])
@pytest.mark.parametrize("extra_conv", [False, True])
def test_the_control_costs_what_the_graph_costs(channels, gp, extra_conv):
    graph, control = (weights_of(alone(kind, gp, extra_conv, channels)) for kind in ("graph", "control"))
    assert control == pytest.approx(graph, rel=0.01)


@pytest.mark.parametrize("kind", ["graph", "control"])
def test_every_convolution_runs_once(kind):
    """So that the test above compares what is computed."""
    net = alone(kind)
    found = cost(net, (64, 64))
    assert (found.params, found.macs) == weights_of(net)


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
    learned = {k: p for k, p in net.named_parameters() if "refine" in k.split(".") and k not in idle(net)}
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        outputs = net(torch.randn(2, 3, *size))
        sum((o * torch.randn_like(o)).sum() for o in outputs).backward()
        still = {k for k, p in learned.items() if not p.grad.abs().sum() > 0}
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
