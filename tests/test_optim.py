"""Schedules, parameter groups, Muon, averaged weights."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edgepose import optim  # noqa: E402


def test_linear_rises_holds_and_falls_to_zero():
    rate = [optim.rate(s, 100, 1.0, "linear", warmup=10, decay=0.5) for s in (0, 4, 9, 49, 75, 100)]
    assert rate == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.5, 0.0])


def test_cosine_steps_and_constant():
    assert [optim.rate(s, 110, 2.0, "cosine", 10) for s in (10, 60, 110)] == pytest.approx([2.0, 1.0, 0.0])
    step = [optim.rate(s, 210, 1.0, "step", milestones=(170 / 210, 200 / 210)) for s in (169, 170, 199, 200)]
    assert step == pytest.approx([1.0, 0.1, 0.1, 0.01])
    assert optim.rate(99, 100, 1.0, "constant") == 1.0


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.block = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, groups=6))
        self.up = nn.ConvTranspose2d(6, 5, 4, 2)
        self.final = nn.Conv2d(5, 2, 1)

    def layers(self):
        return {n: 0 if n.startswith("stem") else 1 if n.startswith("block") else 2 for n, _ in self.named_parameters()}


def test_groups_decay_matrices_only_and_slow_the_early_layers():
    net = Two()
    found = {id(p): g for g in optim.groups(net, 0.1, 0.5) for p in g["params"]}
    assert len(found) == len(list(net.parameters()))
    assert (found[id(net.stem.weight)]["weight_decay"], found[id(net.stem.weight)]["scale"]) == (0.1, 0.25)
    assert (found[id(net.block[1].weight)]["weight_decay"], found[id(net.block[1].weight)]["scale"]) == (0.0, 0.5)
    assert found[id(net.final.bias)]["scale"] == 1.0
    with pytest.raises(ValueError, match="Linear does not number its layers"):
        optim.groups(nn.Linear(2, 2), 0.1, 0.5)


def test_orthogonal_gives_singular_values_near_one():
    matrix = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    for m in (matrix, matrix.T):
        singular = torch.linalg.svdvals(optim.orthogonal(m))
        assert singular.min() > 0.6 and singular.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    near = optim.orthogonal(matrix)
    assert (near * (u @ v)).sum() / (near.norm() * (u @ v).norm()) > 0.98, "it points where the polar factor does"


def test_muon_takes_steps_of_equal_size_in_all_directions_and_leaves_the_rest_to_adamw():
    torch.manual_seed(0)
    net, other = Two(), Two()
    other.load_state_dict(net.state_dict())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for model, name in ((net, "muon"), (other, "adamw")):
        torch.manual_seed(1)
        optimiser = optim.make(model, name, 0.01, 0.0)
        model.final(model.up(model.block(model.stem(torch.randn(2, 3, 9, 9))))).square().mean().backward()
        optimiser.step()
        assert set(optimiser.state_dict()["state"])
    same = {k for k, v in net.state_dict().items() if torch.equal(v, other.state_dict()[k])}
    assert {k for k, _ in net.named_parameters()} - same == {"block.0.weight", "up.weight"}
    change = (net.block[0].weight - before["block.0.weight"]).flatten(1) / 0.01
    singular = torch.linalg.svdvals(change) / (0.2 * 6**0.5)
    assert singular.min() > 0.6 and singular.max() < 1.3
    change = (net.up.weight - before["up.weight"]).transpose(0, 1).flatten(1) / 0.01
    assert torch.linalg.svdvals(change)[1] / (0.2 * 96**0.5) > 0.6, "two outputs: a gradient of rank two"


def test_unknown_optimiser_is_named():
    with pytest.raises(ValueError, match="no optimiser called 'sgd'; known: muon, adamw, adam"):
        optim.make(Two(), "sgd", 0.1, 0.0)


def test_average_moves_statistics_too():
    a, b = Two(), Two()
    b.block[1].running_mean.fill_(1.0)
    b.block[1].num_batches_tracked.fill_(7)
    optim.average(a, b, 0.75)
    assert a.block[1].running_mean.tolist() == [0.25] * 6
    assert a.block[1].num_batches_tracked == 7
