"""`edgepose explain`: what nodes answer to, what they take from their siblings, the picture, and what is refused."""

from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from _refined import HOSTS, PARTS, stirred  # noqa: E402

from edgepose import cli, explain, explainplot, weights  # noqa: E402
from edgepose.card import Card  # noqa: E402
from edgepose.codecs.bottomup import BottomUp  # noqa: E402
from edgepose.codecs.topdown import TopDown  # noqa: E402
from edgepose.models import simplebaseline  # noqa: E402
from edgepose.models._parsegraph import Node, Refine, TokenNode  # noqa: E402
from edgepose.skeleton import COCO17  # noqa: E402


@pytest.fixture(autouse=True)
def same_numbers():
    """One thread too: more only wait for one another on networks this small."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_share_is_the_context_s_energy_over_both():
    """Children of one channel that pass on what they get: own channel times a, the sibling's times b."""
    node = Node(2, Refine(gp=(2,))).eval()
    a, b = 3.0, -0.5
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1
    with torch.no_grad():
        for transform in node.transform:
            transform[-1].weight.zero_()  # what remains is the residual
        for context, fuse in zip(next(iter(node.context.values())), node.fuse, strict=True):
            context[0].weight.copy_(centre)
            context[0].bias.zero_()
            fuse[0].weight.copy_(torch.stack([a * centre, b * centre])[None])
            fuse[0].bias.fill_(7.0)  # is neither's
            fuse[1].weight.fill_(4.0)  # scales both
    x = torch.rand(1, 2, 5, 4) + 0.1
    one, two = (float(x[0, i].square().sum()) for i in (0, 1))
    _, first, second = explain.graph(node, x, node)
    assert first.share == pytest.approx(b * b * two / (a * a * one + b * b * two), rel=1e-4)
    assert second.share == pytest.approx(b * b * one / (a * a * two + b * b * one), rel=1e-4)


def test_channels_that_the_batchnorm_quells_do_not_count():
    """The first channel is all context, the second all own: the scale of the BatchNorm decides."""
    fuse = Node(4, Refine(gp=(2,))).eval().fuse[0]
    with torch.no_grad():
        fuse[0].weight[0, :2], fuse[0].weight[1, 2:] = 0, 0
        features = torch.randn(1, 4, 6, 6)
        fuse[1].weight.copy_(torch.tensor([0.0, 1.0]))
        assert explain.shares(fuse, features) == 0
        fuse[1].weight.copy_(torch.tensor([1.0, 1.0]))
        fuse[1].running_var.copy_(torch.tensor([1e-4, 1e4]))
        assert explain.shares(fuse, features) > 0.99


@pytest.mark.parametrize(("half", "share"), [(slice(8, None), 0.0), (slice(0, 8), 1.0)])
def test_cut_off_context_is_not_taken(half, share):
    node = stirred(Node(16, Refine()))
    with torch.no_grad():
        node.fuse[0][0].weight[:, half] = 0
    shares = {part.path: part.share for part in explain.graph(node, torch.randn(1, 16, 6, 5), node)}
    assert shares[0,] == share
    assert all(0 < shares[path] < 1 for path in shares if path not in ((), (0,)))
    assert shares[()] is None


def stretched(features):
    mean = features[0].abs().mean(0).numpy()
    return (mean - mean.min()) / (mean.max() - mean.min())


def test_every_node_shows_its_own_features():
    """Those that the module itself puts together, in the order of the tree."""
    node, x = stirred(Node(24, Refine(gp=(3, 2)))), torch.randn(1, 24, 6, 5)
    parts = explain.graph(node, x, node)
    with torch.no_grad():
        whole, levels = node.tree(x)
    assert [part.path for part in parts] == [(), (0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    for part, features in zip(parts, [whole, *levels[0], *levels[1]], strict=True):
        assert part.channels == features.shape[1]
        np.testing.assert_allclose(part.activation, stretched(features), atol=1e-5)
    assert not node.fuse[0]._forward_hooks, "the network is left as it was"


def test_attention_is_explained_by_what_it_adds():
    node, x = stirred(TokenNode(12, Refine("attention", (2,)))), torch.randn(1, 12, 4, 3)
    _, first, second = explain.graph(node, x, node)
    with torch.no_grad():
        out = node(x)
    for part, own, child in zip((first, second), x.chunk(2, 1), out.chunk(2, 1), strict=True):
        added, kept = (float(f.square().sum()) for f in (child - own, own))
        assert part.share == pytest.approx(added / (added + kept), rel=1e-4)
        np.testing.assert_allclose(part.activation, stretched(child), atol=1e-5)


# ── picture ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_parents_stand_over_the_middle_of_their_children():
    places, levels = explainplot.layout([(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)])
    assert levels == 3
    assert places == {
        (): (1.5, 0), (0,): (0.5, 1), (1,): (2.5, 1), (0, 0): (0, 2), (0, 1): (1, 2), (1, 0): (2, 2), (1, 1): (3, 2)
    }  # fmt: skip


def test_heat_lies_where_the_activation_is():
    grey, activation = np.full((80, 60, 3), 100, np.uint8), np.zeros((4, 3), np.float32)
    activation[1, 2] = 1
    brightness = explainplot.heated(grey, activation).sum(2)
    assert np.unravel_index(brightness.argmax(), brightness.shape)[0] in range(25, 35)
    assert np.unravel_index(brightness.argmax(), brightness.shape)[1] in range(45, 60)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def folder(path, refine, codec=None, runtimes=("pytorch",)):
    _, arch, (h, w) = HOSTS["simplebaseline"]
    net = stirred(simplebaseline.build(replace(arch, refine=refine)))
    card = Card("simplebaseline-r18", asdict(net.arch), codec or TopDown(COCO17, (w, h)))
    return weights.save(path, card, net, runtimes) and path


def test_the_command_draws_and_says_the_shares(tmp_path, photos, capsys):
    model, out = folder(tmp_path / "model", Refine(stages=3, parts=PARTS)), tmp_path / "new" / "graph.png"
    words = ["explain", str(model), str(photos / "s2d_100.jpg"), "--out", str(out), "--box", "100,60,220,400"]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "root", "upper", "lower", "upper left", "upper right", "lower left", "lower right"
    ]  # fmt: skip
    assert cv2.imread(str(out)).std() > 20
    assert cli.main([*words, "--module", "3"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["1", "2"]


def test_the_largest_person_is_taken(tmp_path, photos, monkeypatch):
    """And the box of that person is what the network sees."""
    from edgepose.poses import Poses

    rng = np.random.default_rng(0)
    xy = np.concatenate(
        [rng.uniform(10, 60, (1, 17, 2)), rng.uniform(100, 300, (1, 17, 2)), rng.uniform(0, 400, (1, 17, 2))]
    )
    found = Poses(xy, np.full((3, 17), 0.9), COCO17, np.array([0.9, 0.8, 0.2]))
    monkeypatch.setattr(explain, "load", lambda *_: lambda image: found)
    (box,) = explain.person(tmp_path, np.zeros((400, 400, 3), np.uint8), photos)
    assert box[0] < 110 and box[2] > 290 and box[0] > 60, "the second: the third is not sure enough"


@pytest.mark.parametrize(
    ("refine", "more", "says"),
    [
        (None, (), "has no parse graph"),
        (Refine("control"), (), "is refined by a control"),
        (Refine(), ("--box", "5,5,3,9"), "--box is x0,y0,x1,y1"),
        (Refine(), ("--module", "2"), "--module is 1 to 1"),
        (Refine(), ("--out", "graph.jpg"), "--out is a PNG file"),
        (Refine(), (), "nobody was found in"),
    ],
)
def test_what_cannot_be_explained_says_so(refine, more, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = folder(tmp_path / "model", refine)
    cv2.imwrite("empty.png", np.full((64, 96, 3), 120, np.uint8))
    assert cli.main(["explain", str(model), "empty.png", "--out", "graph.png", *more]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "graph.png").exists()


def test_models_without_torch_weights_or_of_whole_pictures_are_refused(tmp_path, capsys):
    model = folder(tmp_path / "model", Refine())
    replace(Card.read(model), weights={"onnx": "model.onnx"}).write(model)
    assert cli.main(["explain", str(model), "a.jpg", "--out", str(tmp_path / "a.png")]) == 2
    assert "no weights for pytorch" in capsys.readouterr().err
    model = folder(tmp_path / "whole", Refine(), BottomUp(COCO17, 64))
    assert cli.main(["explain", str(model), "a.jpg", "--out", str(tmp_path / "a.png")]) == 2
    assert "looks at whole pictures" in capsys.readouterr().err
