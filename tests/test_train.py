"""The training loop: it learns, it can be interrupted at any moment, and it says what is wrong."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from lightning_fabric import Fabric  # noqa: E402
from torch import nn  # noqa: E402

from edgepose import folder, losses, train  # noqa: E402
from edgepose.data._augment import Augment  # noqa: E402

PLAN = train.Recipe(
    "litepose-xs", (("coco", "small"),), (), (("coco", "small"),), steps=8, batch=2, lr=1e-2, warmup=2,
    resolutions=((0.0, 64), (0.5, 128)), augment=Augment(mosaic=0), ema=0.5,
)  # fmt: skip


class Tiny(nn.Module):
    """Two convolutions with BatchNorm, outputs at strides 4 and 2."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.coarse, self.fine = nn.Conv2d(8, 34, 3, 2, 1), nn.Conv2d(8, 17, 1)

    def forward(self, x):
        x = self.body(x)
        return [self.coarse(x), self.fine(x)]


@pytest.fixture
def root(tmp_path):
    """Four photographs with one person each."""
    pictures = tmp_path / "coco_small"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    images, people = [], []
    for i in range(4):
        cv2.imwrite(str(pictures / f"{i}.png"), rng.integers(0, 256, (96, 96, 3), np.uint8))
        joints = np.concatenate([rng.uniform(20, 76, (17, 2)), np.full((17, 1), 2)], 1)
        images.append({"id": i, "file_name": f"{i}.png", "width": 96, "height": 96})
        person = {"id": i, "image_id": i, "category_id": 1, "bbox": [20, 20, 56, 56], "area": 1600.0}
        people.append({**person, "num_keypoints": 17, "keypoints": joints.ravel().tolist()})
    (tmp_path / "coco_small.json").write_text(json.dumps({"images": images, "annotations": people}))
    return tmp_path


def run(root, out, plan=PLAN, **kwargs):
    torch.manual_seed(0)
    return train.fit(plan, root, out, Fabric(accelerator="cpu", devices=1), Tiny(), workers=0, **kwargs)[0]


def test_it_learns_and_logs(root, tmp_path):
    plan = replace(PLAN, steps=100, resolutions=((0.0, 64),))
    net = run(root, tmp_path / "run", plan)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [50, 100]
    assert rows[1]["loss"] < 0.9 * rows[0]["loss"]
    assert not net.training


def test_an_interrupted_run_ends_with_the_same_weights(root, tmp_path, monkeypatch):
    whole = run(root, tmp_path / "whole", every=3).state_dict()
    calls, real = [], losses.bottom_up

    def stop_at_the_sixth(*args):
        calls.append(args)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(losses, "bottom_up", stop_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "broken", every=3)
    monkeypatch.undo()
    assert torch.load(tmp_path / "broken" / "last.ckpt", weights_only=True)["step"] == 3
    resumed = run(root, tmp_path / "broken", every=3).state_dict()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_weights(root, tmp_path, monkeypatch):
    real = losses.bottom_up
    monkeypatch.setattr(losses, "bottom_up", lambda *args: {k: v * float("nan") for k, v in real(*args).items()})
    with pytest.raises(ValueError, match="not finite at step 0; lower lr; nothing was saved yet"):
        run(root, tmp_path / "run")
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_rate_rises_holds_and_falls_to_zero():
    plan = replace(PLAN, steps=100, lr=1.0, warmup=10, decay=0.5)
    assert [train.rate(plan, s) for s in (0, 4, 9, 49)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert train.rate(plan, 75) == pytest.approx(0.5)
    assert train.rate(plan, 100) == 0


def test_average_moves_statistics_too():
    a, b = Tiny(), Tiny()
    b.body[1].running_mean.fill_(1.0)
    b.body[1].num_batches_tracked.fill_(7)
    train.average(a, b, 0.75)
    assert a.body[1].running_mean.tolist() == [0.25] * 8
    assert a.body[1].num_batches_tracked == 7


def test_every_recipe_builds_and_names_known_data():
    for file in folder.names("edgepose.recipes"):
        for variant in train._recipes(file):
            plan = train.find(f"{file}-{variant}")
            assert plan.data
            assert plan.licence
            for name, split in (*plan.photographs, *plan.singles, *plan.validation):
                assert split in folder.entry("edgepose.data", name).SPLITS
            assert not set(plan.photographs + plan.singles) & set(plan.validation)


def test_misuse_is_named(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'litepose-xs'"):
        train.train("litepose-x", tmp_path, tmp_path / "out")
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(ValueError, match="holds an earlier run"):
        train.train("litepose-xs", tmp_path, tmp_path)
    module = folder.entry("edgepose.models", "litepose")
    with pytest.raises(ValueError, match="no such file"):
        train.start(Tiny(), module, tmp_path / "gone.pth")
    torch.save({"ema": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="does not fit this network"):
        train.start(Tiny(), module, tmp_path / "other.ckpt")
