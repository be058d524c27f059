"""The training loop: it learns, it can be killed at any moment, and it says what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from lightning_fabric import Fabric  # noqa: E402
from torch import nn  # noqa: E402

from edgepose import folder, losses, recipes, runs, train  # noqa: E402
from edgepose.codecs.bottomup import BottomUp  # noqa: E402
from edgepose.codecs.topdown import TopDown  # noqa: E402
from edgepose.data._augment import Augment  # noqa: E402
from edgepose.recipes import Recipe  # noqa: E402

PLAN = Recipe(
    "litepose-xs", (("coco", "small"),), (("coco", "small"),), steps=8, batch=2, lr=1e-2, warmup=2,
    resolutions=((0.0, 64), (0.5, 128)), augment=Augment(mosaic=0), ema=0.5,
    channels_last=False,  # torch 2.13 frees memory twice for some very narrow convolutions in that layout
)  # fmt: skip


class Tiny(nn.Module):
    """Two convolutions with BatchNorm, outputs at strides 4 and 2."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Dropout2d(0.2), nn.ReLU())
        self.coarse, self.fine = nn.Conv2d(8, 34, 3, 2, 1), nn.Conv2d(8, 17, 1)

    def forward(self, x):
        x = self.body(x)
        return [self.coarse(x), self.fine(x)]


class Still(nn.Module):
    """One linear layer without BatchNorm: its gradient is the mean over samples, however they are shared."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 17, 4, 4)

    def forward(self, x):
        return [self.conv(x)]


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in the same order in every process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def root(tmp_path):
    """Four photographs with one person each."""
    return photographs(tmp_path)


def photographs(tmp_path):
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


def fit(root, out, plan=PLAN, codec=None, net=Tiny, **kwargs):
    torch.manual_seed(0)
    plan, shown = train.samples(plan, codec or BottomUp(), root, train.records(plan.photographs, root))
    return train.fit(plan, shown, out, Fabric(accelerator="cpu", devices=1), net(), workers=0, **kwargs)[0]


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "muon"])
def test_it_learns_and_logs(root, tmp_path, optimiser):
    plan = replace(PLAN, steps=100, resolutions=((0.0, 64),), optimiser=optimiser, schedule="cosine")
    net = fit(root, tmp_path / "run", plan)
    assert [row["step"] for row in rows(tmp_path / "run")] == [50, 100]
    assert rows(tmp_path / "run")[1]["loss"] < 0.9 * rows(tmp_path / "run")[0]["loss"]
    assert not net.training


@pytest.mark.parametrize("loss", ["mse", "ohkm", "awing"])
def test_top_down_training_lowers_every_loss(root, tmp_path, loss):
    plan = replace(PLAN, loss=loss, steps=0, epochs=50, batch=4, resolutions=())
    fit(root, tmp_path / "run", plan, TopDown(input_size=(48, 64)), Still)
    assert [row["step"] for row in rows(tmp_path / "run")] == [50]  # 50 epochs of 4 people, 4 a step
    fit(root, tmp_path / "long", replace(plan, epochs=100), TopDown(input_size=(48, 64)), Still)
    assert rows(tmp_path / "long")[1]["loss"] < 0.95 * rows(tmp_path / "long")[0]["loss"]


def test_a_teacher_is_copied_on_the_same_crops(root, tmp_path):
    """The KL term is that of the teacher's maps of the very batch, and it changes what is learnt."""
    seen = {}

    class Looking(Still):
        def forward(self, x):
            seen.setdefault(self.training, []).append(x.clone())
            return super().forward(x)

    torch.manual_seed(5)
    teacher = Looking().eval()
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    plan = replace(PLAN, batch=4, steps=50, resolutions=(), kl_weight=0.5, clip=0.0)
    codec = TopDown(input_size=(48, 64))
    taught = fit(root, tmp_path / "a", plan, codec, Looking, teacher=teacher)
    assert len(seen[True]) == len(seen[False]) == 50
    assert all(torch.equal(a, b) for a, b in zip(seen[True], seen[False], strict=True))
    (row,) = rows(tmp_path / "a")
    assert row["loss"] == pytest.approx(row["heatmap_0"] + 0.5 * row["kl"], rel=1e-4) and row["kl"] > 0
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    alone = fit(root, tmp_path / "b", plan, codec, Looking)
    assert "kl" not in rows(tmp_path / "b")[0]
    assert not torch.allclose(taught.conv.weight, alone.conv.weight, atol=1e-4)


def test_statistics_are_measured_anew_at_the_end(root, tmp_path):
    plan = replace(PLAN, batch=4, steps=3, resolutions=((0.0, 64),), recalibrate=2)
    net = fit(root, tmp_path / "a", plan)
    old = fit(root, tmp_path / "b", replace(plan, recalibrate=0))
    assert torch.equal(net.fine.weight, old.fine.weight) and not net.training
    plan, shown = train.samples(plan, BottomUp(), root, train.records(plan.photographs, root))
    images = torch.stack([torch.from_numpy(shown[12 + i]["image"]) for i in range(8)])
    inner = net.body[0](images)
    assert torch.allclose(net.body[1].running_mean, inner.mean((0, 2, 3)), atol=1e-5)
    assert not torch.allclose(old.body[1].running_mean, net.body[1].running_mean, atol=1e-4)


def test_validation_is_measured_and_logged(root, tmp_path):
    plan = replace(PLAN, measure=3)
    fit(root, tmp_path / "run", plan, check=lambda net: {"AP": 0.0 if net.training else 0.25})
    assert [(row["step"], row["AP"]) for row in rows(tmp_path / "run") if "AP" in row] == [(3, 0.25), (6, 0.25)]


def test_accumulated_passes_give_the_gradient_of_the_whole_batch(root, tmp_path):
    plan = replace(PLAN, batch=4, steps=3, resolutions=(), clip=0.0)
    codec = TopDown(input_size=(48, 64))
    whole = fit(root, tmp_path / "a", plan, codec, Still).state_dict()
    parts = fit(root, tmp_path / "b", replace(plan, accumulate=2), codec, Still).state_dict()
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(momentum(tmp_path / "a"), momentum(tmp_path / "b"), rtol=1e-3, atol=1e-9)
    other = fit(root, tmp_path / "c", replace(plan, seed=1), codec, Still).state_dict()
    assert not torch.allclose(whole["conv.weight"], other["conv.weight"], rtol=1e-4, atol=1e-6)


def momentum(out):
    """Mean gradient of the first parameter: Adam's weights do not tell a gradient from twice that gradient."""
    return torch.load(out / "last.ckpt", weights_only=True)["optimiser"]["state"][0]["exp_avg"]


def test_early_layers_take_smaller_steps(root, tmp_path):
    class Layered(Still):
        def layers(self):
            return {"conv.weight": 0, "conv.bias": 1}

    plan = replace(PLAN, batch=4, steps=1, warmup=0, schedule="constant", lr=0.01, weight_decay=0.0, resolutions=())
    torch.manual_seed(0)
    before = Layered().state_dict()
    after = fit(
        root, tmp_path / "run", replace(plan, layer_decay=0.5, ema=0.0), TopDown(input_size=(48, 64)), Layered
    ).state_dict()
    steps = {name: (after[name] - before[name]).abs().max().item() for name in before}
    assert steps == pytest.approx({"conv.weight": 0.005, "conv.bias": 0.01}, rel=1e-2)


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_train import PLAN, Tiny, Still, fit, train, TopDown, replace, torch
from lightning_fabric import Fabric
"""


def child(code, *args, place=None):
    here = os.path.dirname(os.path.abspath(__file__))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **(place or {})}
    return subprocess.Popen([sys.executable, "-c", CHILD.format(tests=here) + code, *args], env=environment)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(root, tmp_path, optimiser):
    plan = replace(PLAN, steps=60, optimiser=optimiser)
    whole = fit(root, tmp_path / "whole", plan, every=7).state_dict()
    code = "fit(Path(sys.argv[1]), Path(sys.argv[2]), replace(PLAN, steps=60, optimiser=sys.argv[3]), every=7)"
    broken = tmp_path / "broken"
    process = child(code, str(root), str(broken), optimiser)
    patience = time.monotonic() + 60
    while not (broken / "last.ckpt").exists() and time.monotonic() < patience:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = torch.load(broken / "last.ckpt", weights_only=True)["step"]
    assert 0 < step < 60, "it was killed under way"
    resumed = fit(root, broken, plan, every=7).state_dict()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert [row["step"] for row in rows(broken)] == [50, 60]


TWO = """
fabric = Fabric(accelerator="cpu", devices=2, num_nodes=1, strategy="ddp")
fabric.launch()
torch.manual_seed(0)
plan = replace(PLAN, batch=4, steps=4, resolutions=(), clip=0.0, ema=0.0, local_steps=int(sys.argv[3]))
root = sys.argv[1]
plan, shown = train.samples(plan, TopDown(input_size=(48, 64)), root, train.records(plan.photographs, root))
train.fit(plan, shown, Path(sys.argv[2]), fabric, Still(), workers=0)
fabric.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("local_steps", [1, 2])
def test_two_processes_train_as_one(root, tmp_path, local_steps):
    """DDP gives the weights of one process; with local steps, the mean of two that learnt apart."""
    out, port = tmp_path / "two", str(29500 + os.getpid() % 1000 + local_steps)
    ranks = []
    for rank in range(2):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": str(rank)}
        place |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}
        ranks.append(child(TWO, str(root), str(out), str(local_steps), place=place))
    assert [process.wait(120) for process in ranks] == [0, 0]
    two = torch.load(out / "last.ckpt", weights_only=True)["net"]
    plan = replace(PLAN, batch=4, steps=4, resolutions=(), clip=0.0, ema=0.0)
    one = fit(root, tmp_path / "one", plan, TopDown(input_size=(48, 64)), Still).state_dict()
    near = torch.allclose(one["conv.weight"], two["conv.weight"], rtol=1e-4, atol=1e-6)
    assert near == (local_steps == 1)
    if local_steps == 1:
        torch.testing.assert_close(momentum(out), momentum(tmp_path / "one"), rtol=1e-3, atol=1e-9)
    if local_steps == 2:
        assert torch.allclose(one["conv.weight"], two["conv.weight"], atol=0.05)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_weights(root, tmp_path, monkeypatch):
    real = losses.bottom_up
    monkeypatch.setattr(losses, "bottom_up", lambda *args: {k: v * float("nan") for k, v in real(*args).items()})
    with pytest.raises(ValueError, match="not finite at step 0; lower lr; nothing was saved yet"):
        fit(root, tmp_path / "run")
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    train.keep(tmp_path / "last.ckpt", {"step": 1})

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ValueError, match=r"No space left on device\); the checkpoint before it is whole; make room"):
        train.keep(tmp_path / "last.ckpt", {"step": 2})
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_every_recipe_builds_and_names_known_data():
    for name in recipes.names():
        plan = recipes.find(name)
        assert plan.data
        assert plan.licence
        for data, split in (*plan.photographs, *plan.singles, *plan.validation):
            assert split in folder.entry("edgepose.data", data).SPLITS
        assert not set(plan.photographs + plan.singles) & set(plan.validation)


def test_misuse_is_named(root, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'litepose-xs'"):
        runs.command(["train", "litepose-x", "--root", "a", "--out", "b"])
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(ValueError, match="holds an earlier run"):
        runs.run("litepose-xs", tmp_path, tmp_path, PLAN)
    with pytest.raises(ValueError, match=r"holds no last\.ckpt"):
        runs.run("litepose-xs", tmp_path, tmp_path / "none", PLAN, resume=True)
    module = folder.entry("edgepose.models", "litepose")
    with pytest.raises(ValueError, match="no such file"):
        runs.start(Tiny(), module, tmp_path / "gone.pth")
    torch.save({"ema": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="does not fit this network"):
        runs.start(Tiny(), module, tmp_path / "other.ckpt")
    three = SimpleNamespace(world_size=3)
    with pytest.raises(ValueError, match="batch 4 cannot be shared by 3 forward passes"):
        next(train.batches(replace(PLAN, batch=4), [], three, 0, 1, 0))
    with pytest.raises(ValueError, match="says steps or epochs"):
        replace(PLAN, epochs=3.0)
    with pytest.raises(ValueError, match="no loss called 'l1'"):
        train.objective(replace(PLAN, loss="l1"), BottomUp())


def test_flags_and_assignments_change_the_recipe(tmp_path):
    words = ["train", "litepose-xs", "--root", "r", "--out", "o", "lr=0.25", "resolutions=0,64", "arch.stem=8"]
    function, flags = runs.command([*words, "--steps", "7", "augment.scale=0.5,0.6"])
    assert function.keywords["plan"].arch["stem"] == 8
    import tyro

    seen = {}

    def catch(recipe: tyro.conf.Positional[str], root: str, out: str, plan: runs.Plan) -> int:
        seen["plan"] = plan
        return 0

    tyro.cli(partial(catch, plan=function.keywords["plan"]), args=flags[1:])
    plan = seen["plan"]
    assert (plan.lr, plan.resolutions, plan.steps, plan.augment.scale) == (0.25, ((0.0, 64),), 7, (0.5, 0.6))
    assert plan.tag_weight == recipes.find("litepose-xs").tag_weight
    plan.write(tmp_path / "recipe.json")
    assert Recipe.read(tmp_path / "recipe.json") == plan
