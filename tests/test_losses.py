"""Losses against the paper's values and against plain loops."""

import json
import math

import pytest
import torch

from edgepose import losses


def golden_tags():
    k, r = 3, 6
    tags = 2 * torch.sin(torch.arange(2 * k * r * r).double()).view(2, k * r * r)
    table = torch.zeros(2, 30, k, 2, dtype=torch.long)
    for b in range(2):
        for p in range(3 - b):
            for joint in range(2 if p == 2 else k):
                table[b, p, joint, 0] = joint * r * r + ((2 * p + joint) % r) * r + (p + 3 * b) % r
                table[b, p, joint, 1] = 1
    return tags, table


def test_associative_embedding_equals_the_original(shared):
    want = json.loads((shared / "golden/litepose.json").read_text())["ae_loss"]
    push, pull = losses.associative_embedding(*golden_tags())
    assert push.item() == pytest.approx(want["push"], rel=1e-6)
    assert pull.item() == pytest.approx(want["pull"], rel=1e-6)


def test_associative_embedding_equals_a_plain_loop():
    tags, table = golden_tags()
    pushes, pulls = [], []
    for b in range(2):
        means, pull = [], 0.0
        for row in table[b]:
            mine = [tags[b, i] for i, seen in row.tolist() if seen]
            if mine:
                means.append(sum(mine) / len(mine))
                pull += sum((t - means[-1]) ** 2 for t in mine) / len(mine)
        n = len(means)
        push = sum(torch.exp(-((a - c) ** 2)) for i, a in enumerate(means) for j, c in enumerate(means) if i != j)
        pushes.append(0.5 * push / (n * (n - 1)))
        pulls.append(pull / n)
    push, pull = losses.associative_embedding(tags, table)
    assert push.item() == pytest.approx(float(sum(pushes)) / 2)
    assert pull.item() == pytest.approx(float(sum(pulls)) / 2)


@pytest.mark.parametrize("people", [0, 1])
def test_nobody_is_pushed_when_there_are_fewer_than_two(people):
    tags, table = golden_tags()
    table[:, people:] = 0
    push, pull = losses.associative_embedding(tags, table)
    assert push.item() == 0
    assert (pull.item() > 0) == (people == 1)


def test_heatmap_mse_averages_over_all_pixels_and_obeys_the_mask():
    target = torch.zeros(1, 2, 4, 4)
    target[0, 0, 1, 1] = 1
    maps, mask = torch.zeros_like(target), torch.ones_like(target)
    assert losses.heatmap_mse(maps, target, mask).item() == pytest.approx(1 / 32)
    assert losses.heatmap_mse(maps, target, mask, focus=3).item() == pytest.approx(4 / 32)
    mask[0, 0] = 0
    assert losses.heatmap_mse(maps, target, mask).item() == 0


def test_bottom_up_reads_the_tags_behind_the_heatmaps_of_the_first_output():
    tags, table = golden_tags()
    first = torch.cat([torch.zeros(2, 3, 6, 6), tags.view(2, 3, 6, 6).float()], 1)
    targets = {"heatmaps_0": torch.zeros(2, 3, 6, 6), "mask_0": torch.ones(2, 3, 6, 6), "joints": table}
    targets |= {"heatmaps_1": torch.ones(2, 3, 12, 12), "mask_1": torch.ones(2, 3, 12, 12)}
    terms = losses.bottom_up([first, torch.zeros(2, 3, 12, 12)], targets)
    push, pull = losses.associative_embedding(*golden_tags())
    assert terms["heatmap_1"].item() == pytest.approx(1)
    assert terms["loss"].item() == pytest.approx(1 + 1e-3 * (push + pull).item(), rel=1e-6)


def pair(seed=0, joints=10):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(2, joints, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))


def test_ohkm_is_the_mean_of_the_hardest_joints():
    maps, target = pair()
    mask = torch.ones(2, 10, 1, 1, dtype=torch.float64)
    mask[0, :3] = 0
    error = (mask * (maps - target) ** 2).flatten(2).mean(2)
    want = sum(sum(sorted(row.tolist())[-8:]) for row in error) / 16
    assert losses.ohkm(maps, target, mask).item() == pytest.approx(want)
    with pytest.raises(ValueError, match="8 hardest joints; this network has 3"):
        losses.ohkm(*(m[:, :3] for m in pair()), mask[:, :3])


def test_awing_equals_its_formula_pixel_by_pixel():
    """Wang et al., ICCV 2019, equations 3 and 4, with alpha 2.1, omega 14, epsilon 1, theta 0.5."""
    maps, target = pair(1, 3)
    maps = maps * 2 - 0.5
    total = 0.0
    for y_hat, y in zip(maps.flatten().tolist(), target.flatten().tolist(), strict=True):
        power, d = 2.1 - y, abs(y - y_hat)
        a = 14 * (1 / (1 + 0.5**power)) * power * 0.5 ** (power - 1)
        c = 0.5 * a - 14 * math.log(1 + 0.5**power)
        total += 14 * math.log(1 + d**power) if d < 0.5 else a * d - c
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert losses.awing(maps, target, one).item() == pytest.approx(total / maps.numel())
    same = target.clone().requires_grad_()
    losses.awing(same, target, one).backward()
    assert torch.isfinite(same.grad).all(), "the root of zero has no slope"


@pytest.mark.parametrize(("target", "a", "c"), [(0.0, 11.121, 2.626), (0.5, 11.113, 1.565), (1.0, 9.798, -0.461)])
def test_awing_is_linear_far_from_the_target(target, a, c):
    """Its slope A and offset C at targets 0, 0.5 and 1, worked out by hand."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    near, far = (losses.awing(one * (target + d), one * target, one).item() for d in (1.0, 2.0))
    assert (far - near, far - 2 * near) == pytest.approx((a, c), abs=6e-4)


def test_spatial_kl_is_that_of_the_softmax_over_pixels_of_seen_joints():
    maps, teacher = pair(2, 3)
    mask = torch.ones(2, 3, 1, 1, dtype=torch.float64)
    mask[1, 2] = 0
    total = 0.0
    for n, j in [(n, j) for n in range(2) for j in range(3) if (n, j) != (1, 2)]:
        p = torch.softmax(teacher[n, j].flatten() / 0.1, 0)
        q = torch.softmax(maps[n, j].flatten() / 0.1, 0)
        total += float((p * (p / q).log()).sum())
    assert losses.spatial_kl(maps, teacher, mask).item() == pytest.approx(total / 5)
    assert losses.spatial_kl(teacher, teacher, mask).item() == pytest.approx(0, abs=1e-12)


def test_top_down_sums_every_stack_and_leaves_unlabelled_joints_alone():
    maps, target = (m.float() for m in pair(3, 4))
    weights = torch.tensor([[1.0, 1, 1, 0], [1, 0, 1, 1]])
    batch = {"heatmaps_0": target, "weights": weights}
    terms = losses.top_down([maps, maps + 1], batch)
    assert terms["loss"].item() == pytest.approx(float(terms["heatmap_0"] + terms["heatmap_1"]))
    wild = maps.clone()
    wild[0, 3] = wild[1, 1] = 100
    assert losses.top_down([wild], batch)["loss"].item() == pytest.approx(terms["heatmap_0"].item())
    taught = losses.top_down([maps], batch, teacher=[target], kl_weight=0.5)
    assert taught["loss"].item() == pytest.approx(float(terms["heatmap_0"] + 0.5 * taught["kl"]))
