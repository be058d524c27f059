"""The supernet: subnets are leading corners, trained in place; the defects of the released code cannot come back."""

import copy
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from test_train import PLAN, fit, one_thread, root  # noqa: E402, F401
from torch import nn  # noqa: E402

from edgepose import train  # noqa: E402
from edgepose.checkpoint import read_state  # noqa: E402
from edgepose.codecs.bottomup import BottomUp  # noqa: E402
from edgepose.models.litepose import ARCHS, Arch, LitePose, infer  # noqa: E402
from edgepose.search import supernet  # noqa: E402
from edgepose.search.plan import Search  # noqa: E402
from edgepose.search.space import PAPER, Space  # noqa: E402
from edgepose.search.supernet import Sampler, Supernet, corner, part, sort_channels, subnet  # noqa: E402

BIG = Arch(stem=24, channels=(16, 24, 32, 40), blocks=(2, 2, 2, 2), deconv_channels=(16, 24, 16))
SUB = replace(BIG, stem=8, channels=(8, 16, 24, 24), deconv_channels=(16, 8, 8))
CHOICES = {"size": (64, 128), "stem": (8, 24), "channels.0": (8, 16), "channels.3": (24, 40)}
CHOICES |= {"deconv_channels.2": (8, 16)}


def randomised(arch=BIG, seed=0):
    """A network whose BatchNorm matters."""
    torch.manual_seed(seed)
    net = LitePose(arch).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 2)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.5, 0.5)
    return net


def test_inherited_weights_are_leading_corners_bit_for_bit():
    big = randomised()
    whole, own = big.state_dict(), subnet(big, SUB).state_dict()
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in LitePose(SUB).state_dict().items()}
    for key, value in own.items():
        assert torch.equal(value, whole[key][tuple(map(slice, value.shape))]), key
        assert value.ndim == 0 or value.data_ptr() != whole[key].data_ptr(), "a network of its own"


@pytest.mark.parametrize("kernels", [(4, 4, 4), (2, 3, 4)])
def test_a_training_pass_through_the_supernet_is_that_of_the_subnet(kernels):
    """Forward, gradients and statistics: also what transposed convolutions of every kernel need (defect d)."""
    big = randomised(replace(BIG, deconv_kernels=kernels)).train()
    arch = replace(SUB, deconv_kernels=kernels)
    own, images = subnet(big, arch).train(), torch.randn(2, 3, 64, 64)
    before = copy.deepcopy(big.state_dict())
    mine, theirs = Supernet(big)(images, arch), own(images)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.equal(a, b)
    sum(m.square().sum() for m in mine).backward()
    sum(m.square().sum() for m in theirs).backward()
    gradients = dict(own.named_parameters())
    for key, parameter in big.named_parameters():
        outside = parameter.grad.clone()
        inside = part(outside, gradients[key].shape)
        torch.testing.assert_close(inside, gradients[key].grad, rtol=1e-5, atol=1e-5)
        inside.zero_()
        assert not outside.any(), f"{key} has a gradient outside the slice"
    for key, value in own.named_buffers():  # running statistics: moved in the slice, in place, and nowhere else
        now = big.get_buffer(key)
        assert torch.equal(part(now, value.shape), value)
        if now.ndim:
            assert torch.equal(now[len(value) :], before[key][len(value) :])


def test_smaller_kernels_are_the_middle_and_fewer_blocks_the_first():
    big = randomised().train()
    arch = replace(SUB, kernels=(3, 5, 7, 3), blocks=(1, 2, 1, 2))
    kernel = corner(big, arch)["stage.0.0.depth_conv.0.weight"]
    assert torch.equal(kernel, big.stage[0][0].depth_conv[0].weight[: len(kernel), :, 2:5, 2:5])
    images = torch.randn(2, 3, 64, 64)
    outputs = Supernet(big)(images, arch)
    for a, b in zip(outputs, subnet(big, arch).train()(images), strict=True):
        torch.testing.assert_close(a, b)
    sum(m.sum() for m in outputs).backward()
    assert all(p.grad is not None for p in big.parameters()), "processes that share gradients wait for every one"
    assert not big.stage[0][1].inv[0].weight.grad.any()


def test_every_block_of_every_stage_learns():
    """Defect a: the released code runs 4, 6, 8, 8 of the 6, 8, 10, 10 blocks."""
    space = Space.of(ARCHS["prune-l"][0], 512, PAPER)
    net = LitePose(space.largest.arch)
    for step in range(2):
        for arch in Sampler(space, Search(PAPER))(step):
            assert arch.blocks == (6, 8, 10, 10)
            net.zero_grad()
            sum(m.square().sum() for m in Supernet(net)(torch.randn(2, 3, 64, 64), arch)).backward()
            still = [k for k, p in net.named_parameters() if not p.grad.abs().sum() > 0]
            assert not still


def shown(root, sizes=(64, 128, 192)):  # noqa: F811
    plan = replace(PLAN, batch=4, steps=50, search=Search({"size": sizes}, hold=1))
    return train.samples(plan, BottomUp(), root, train.records(plan.photographs, root))[1]


def test_tag_indices_and_peaks_are_those_of_the_sampled_size(root):  # noqa: F811
    """Defects b and c: indices made for 512 px, and Gaussians that shrink with the picture."""
    samples, seen = shown(root), set()
    for number in range(0, 60, 4):
        size = samples.size(number)
        assert {samples.size(n) for n in range(number, number + 4)} == {size}, "one size a batch"
        seen.add(size)
        sample, arrays = samples.picture(number), samples[number]
        assert arrays["image"].shape == (3, size, size) == (3, *sample.image.shape[:2])
        side = size // 4
        assert arrays["heatmaps_0"].shape == (17, side, side) and arrays["heatmaps_1"].shape == (17, 2 * side, 2 * side)
        table = arrays["joints"].reshape(-1, 2)
        cells = {(int(at) // side**2, int(at) // side % side, int(at) % side) for at, there in table if there}
        inside = sample.truth.scores > 0
        truth = {(int(k), *(int(v) // 4 for v in sample.truth.xy[p, k][::-1])) for p, k in np.argwhere(inside)}
        assert cells == truth
        for k, y, x in cells:  # two pixels beside a peak, in the map of any size
            assert arrays["heatmaps_0"][k, y, x] == 1
            if x + 2 < side and len(sample.truth) == 1:
                assert arrays["heatmaps_0"][k, y, x + 2] == pytest.approx(np.exp(-0.5), abs=1e-6)
    assert seen == {64, 128, 192}


def test_samples_are_drawn_by_step_alone():
    space = Space.of(BIG, 128, CHOICES)
    sampler = Sampler(space, Search(CHOICES, subnets=2, sandwich=True), seed=3)
    assert [sampler(step) for step in range(9)] == [Sampler(space, sampler.plan, 3)(step) for step in range(9)]
    assert len({tuple(sampler(step)) for step in range(9)}) > 4
    for step in range(9):
        first, *_, last = drawn = sampler(step)
        assert len(drawn) == 4 and first == space.biggest().arch and last == space.smallest().arch


def test_sorted_channels_give_the_same_maps_with_the_heaviest_first():
    for arch in (BIG, replace(BIG, fusion=False)):
        net, images = randomised(arch), torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            before, weight = net(images), net.first[2].weight.clone()
            after = sort_channels(net)(images)
        for a, b in zip(before, after, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert not torch.equal(weight, net.first[2].weight)
        readers = [net.stage[i][0].inv[0].weight.abs().sum((0, 2, 3)) for i in range(4)]
        readers += [net.deconv_refined[i].weight.abs().sum((1, 2, 3)) for i in range(3)]
        for weights in readers:
            assert (weights.diff() <= 1e-5).all()


def plan_of(**search):
    return replace(
        PLAN, steps=3, resolutions=(), ema=0.0, lr=1e-3, kl_weight=1.0,
        search=Search({"size": (64,), **{k: v for k, v in CHOICES.items() if k != "size"}}, hold=1, **search),
    )  # fmt: skip


def trained(root, out, plan, monkeypatch=None):  # noqa: F811
    """Weights after training BIG as a supernet by `plan`, and the archs it was run as."""
    space, runs = Space.of(BIG, 64, plan.search.space), []

    class Spy(Supernet):
        def forward(self, images, arch=None):
            runs.append((arch, images.shape[-1]))
            return super().forward(images, arch)

    if monkeypatch:
        monkeypatch.setattr(train, "Supernet", Spy)
    net = fit(root, out, plan, net=lambda: LitePose(BIG), sample=Sampler(space, plan.search, plan.seed))
    return net.state_dict(), runs


def test_the_sandwich_and_its_distillation_are_used(root, tmp_path, monkeypatch):  # noqa: F811
    plan = plan_of(sandwich=True, distil=True)
    space = Space.of(BIG, 64, plan.search.space)
    with_copy, runs = trained(root, tmp_path / "a", plan, monkeypatch)
    assert len(runs) == 9
    assert [runs[i][0] for i in (0, 3, 6)] == [space.biggest().arch] * 3
    assert [runs[i][0] for i in (2, 5, 8)] == [space.smallest().arch] * 3
    without, _ = trained(root, tmp_path / "b", plan_of(sandwich=True))
    assert not torch.equal(with_copy["first.0.0.weight"], without["first.0.0.weight"])
    assert '"copy"' in (tmp_path / "a" / "metrics.jsonl").read_text()
    assert '"copy"' not in (tmp_path / "b" / "metrics.jsonl").read_text()
    alone, runs = trained(root, tmp_path / "c", plan_of(), monkeypatch)
    assert len(runs) == 3 and not torch.equal(alone["first.0.0.weight"], without["first.0.0.weight"])


def test_the_copies_of_the_largest_get_no_gradient_through_it():
    maps, teacher = torch.randn(2, 34, 8, 8, requires_grad=True), torch.randn(2, 34, 8, 8, requires_grad=True)
    from edgepose import losses

    fine = torch.randn(2, 17, 16, 16)
    targets = {"heatmaps_0": torch.zeros(2, 17, 8, 8), "mask_0": torch.ones(2, 17, 8, 8)}
    targets |= {"heatmaps_1": torch.zeros_like(fine), "mask_1": torch.ones_like(fine)}
    targets["joints"] = torch.zeros(2, 3, 17, 2, dtype=torch.int64)
    terms = losses.bottom_up([maps, fine], targets, teacher=[teacher.detach(), fine], copy_weight=0.5)
    plain = losses.bottom_up([maps, fine], targets)
    heat = ((maps - teacher)[:, :17] ** 2).mean()
    torch.testing.assert_close(terms["copy"], heat)
    torch.testing.assert_close(terms["loss"], plain["loss"] + 0.5 * heat)
    hidden = {**targets, "mask_0": torch.zeros(2, 17, 8, 8)}
    assert losses.bottom_up([maps, fine], hidden, teacher=[teacher, fine], copy_weight=1.0)["copy"] == 0


def test_a_supernet_that_was_broken_off_ends_with_the_same_weights(root, tmp_path, monkeypatch):  # noqa: F811
    plan = replace(plan_of(sandwich=True), steps=4)
    whole, _ = trained(root, tmp_path / "whole", plan)
    real, calls = supernet.corner, []

    def dies(net, arch):
        calls.append(arch)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(net, arch)

    monkeypatch.setattr(supernet, "corner", dies)
    space = Space.of(BIG, 64, plan.search.space)
    for _ in range(2):
        with torch.random.fork_rng():
            try:
                again = fit(root, tmp_path / "broken", plan, net=lambda: LitePose(BIG), every=1,
                            sample=Sampler(space, plan.search, plan.seed))  # fmt: skip
            except KeyboardInterrupt:
                again = None
    assert again is not None and all(torch.equal(whole[k], v) for k, v in again.state_dict().items())


def test_the_official_supernet_is_read_by_key(shared, tmp_path):
    lines = (shared / "checkpoints" / "litepose-supernet.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line]
    shapes = {key: tuple(int(n) for n in shape.strip("()").split(",") if n.strip()) for key, shape, _ in rows}
    assert len(shapes) == 815
    torch.manual_seed(0)
    given = {k: torch.tensor(3) if "num_batches" in k else torch.rand(s) for k, s in shapes.items()}
    torch.save({f"module.{k}": v for k, v in given.items()}, tmp_path / "super.pth.tar")
    state, notes = read_state(tmp_path / "super.pth.tar")
    assert "136 kernel transforms of a supernet left out" in notes[0]
    net = LitePose(infer(state))
    net.load_state_dict(state)
    small = replace(ARCHS["xs"][0], joints=14)
    for key, value in subnet(net, small).state_dict().items():
        assert torch.equal(value, given[key][tuple(map(slice, value.shape))])
