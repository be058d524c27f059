"""BatchNorm statistics measured anew, teachers, and binary networks that start from real ones at the command line."""

import json
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from edgepose import cli, models, recalibrate, recipes, runs, weights  # noqa: E402
from edgepose.card import Card  # noqa: E402
from edgepose.codecs.bottomup import BottomUp  # noqa: E402
from edgepose.codecs.topdown import TopDown  # noqa: E402
from edgepose.models import bihrnet, hrnet  # noqa: E402
from edgepose.skeleton import COCO17, MPII16  # noqa: E402

TINY = {"width": 8, "planes": 8, "modules": (1, 1, 1), "blocks": ((1, 1), (1, 1, 1), (1, 1, 1, 1))}
CODEC = TopDown(COCO17, (64, 96))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set of three photographs with two people each, and the folder of a small real HRNet."""
    base = tmp_path_factory.mktemp("made")
    (base / "coco_small").mkdir()
    rng = np.random.default_rng(0)
    images, people = [], []
    for i in range(3):
        cv2.imwrite(str(base / "coco_small" / f"{i}.png"), rng.integers(0, 256, (96, 96, 3), np.uint8))
        images.append({"id": i, "file_name": f"{i}.png", "width": 96, "height": 96})
        for k in range(2):
            joints = np.concatenate([rng.uniform(20, 76, (17, 2)), np.full((17, 1), 2)], 1)
            person = {
                "id": 2 * i + k,
                "image_id": i,
                "category_id": 1,
                "bbox": [10 + 5 * k, 20, 56, 56],
                "area": 1600.0,
            }
            people.append({**person, "num_keypoints": 17, "keypoints": joints.ravel().tolist()})
    (base / "coco_small.json").write_text(json.dumps({"images": images, "annotations": people}))
    torch.manual_seed(0)
    net = hrnet.build(hrnet.Arch(**TINY)).eval()
    card = Card("hrnet-w32", asdict(net.arch), CODEC, scores={"on": "x", "AP": 0.5}, notes="before")
    weights.save(base / "twin", card, net, ["pytorch"])
    return base


def test_statistics_are_the_means_over_all_batches_and_nothing_else_changes():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5))
    before = [p.clone() for p in net.parameters()]
    batches = [torch.randn(6, 3, 5, 5) for _ in range(4)]
    assert recalibrate.statistics(net, batches) == 4
    inner = [net[0](b) for b in batches]
    torch.testing.assert_close(net[1].running_mean, torch.stack([x.mean((0, 2, 3)) for x in inner]).mean(0))
    torch.testing.assert_close(net[1].running_var, torch.stack([x.var((0, 2, 3)) for x in inner]).mean(0))
    assert net[1].momentum == 0.1 and not net.training
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    kept = net[1].running_mean.clone()
    assert recalibrate.statistics(net, []) == 0 and torch.equal(net[1].running_mean, kept)


def test_the_command_writes_a_model_of_the_same_weights(made, tmp_path):
    words = ["recalibrate", "--root", str(made), "--data", "coco", "--split", "small", "--samples", "5"]
    assert cli.main([*words, "--model", str(made / "twin"), "--out", str(tmp_path / "new")]) == 0
    card = Card.read(tmp_path / "new")
    assert card.scores == {} and card.notes == "before; BatchNorm statistics of 5 samples of coco small"
    old, new = recalibrate.load(made / "twin").state_dict(), recalibrate.load(tmp_path / "new").state_dict()
    changed = {k for k in old if not torch.equal(old[k], new[k])}
    assert changed and all(k.rpartition(".")[2].startswith(("running", "num_batches")) for k in changed)
    seen = sum(len(batch) for batch in recalibrate.pictures(CODEC, runs.train.records((("coco", "small"),), made), 5))
    assert seen == 5


def test_whole_photographs_are_shown_to_bottom_up_networks(made):
    records = runs.train.records((("coco", "small"),), made)
    found = list(recalibrate.pictures(BottomUp(input_size=64), records, 2))
    assert [tuple(b.shape) for b in found] == [(1, 3, 64, 64)] * 2


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--data", "coc"], "Did you mean 'coco'"), (["--data", "coco", "--samples", "0"], "at least one")],
)
def test_misuse_is_one_line(made, tmp_path, capsys, words, told):
    line = ["recalibrate", "--model", str(made / "twin"), "--root", str(made), "--split", "small", *words]
    assert cli.main([*line, "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_teachers_that_do_not_fit_are_refused(made):
    plan = recipes.find("bihrnet-small")
    twin = str(made / "twin")
    assert not runs._teacher(replace(plan, teacher=twin), CODEC).training
    for given, codec, told in (
        (plan, CODEC, "but no teacher: name its model folder"),
        (replace(plan, teacher=twin, kl_weight=0.0), CODEC, "give kl_weight"),
        (replace(plan, teacher=twin), BottomUp(), "has strides None"),
        (replace(plan, teacher=twin), replace(CODEC, input_size=(96, 128)), r"has input_size \(64, 96\)"),
        (replace(plan, teacher=twin), TopDown(MPII16, (64, 96)), "has skeleton coco17, this network mpii16"),
    ):
        with pytest.raises(ValueError, match=told):
            runs._teacher(given, codec)


def test_binary_networks_start_from_a_real_one_and_then_from_their_first_step(made, tmp_path):
    file = made / "twin" / "model.safetensors"
    twin = recalibrate.load(made / "twin")
    first = bihrnet.build(bihrnet.Arch(real_weights=True, **TINY))
    runs.start(first, bihrnet, file)
    kernels = [conv.weight for conv in first.stage2[0].branches[0][0].conv1.convs]
    assert torch.equal(torch.cat(kernels), twin.stage2[0].branches[0][0].conv1.weight)
    card = Card("bihrnet-w32", asdict(first.arch), CODEC)
    weights.save(tmp_path / "one", card, first, ["pytorch"])
    second = bihrnet.build(bihrnet.Arch(**TINY))
    runs.start(second, bihrnet, tmp_path / "one" / "model.safetensors")
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in second.state_dict().items())
    with pytest.raises(ValueError, match="no kernel that fits"):
        runs.start(models.build(models.card("simplebaseline-r18-binary")), models.folder.entry(
            "edgepose.models", "simplebaseline"), file)  # fmt: skip
