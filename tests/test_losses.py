"""Losses against the paper's values and against plain loops."""

import json

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
