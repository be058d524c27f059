"""Every recipe is one that runs: its network is known, and a few of its steps lower its own loss on a tiny set."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from lightning_fabric import Fabric  # noqa: E402

from edgepose import folder, models, recipes, runs, train  # noqa: E402
from edgepose.codecs.bottomup import BottomUp  # noqa: E402
from edgepose.search.space import Space  # noqa: E402
from edgepose.search.supernet import Sampler  # noqa: E402

SHRUNK = {  # fields of the networks' archs that make them quick
    "simplebaseline": {"blocks": (1, 1, 1, 1), "stem": 8, "deconv_channels": (16, 16, 16)},
    "hrnet": {"width": 8, "planes": 8, "modules": (1, 1, 1), "blocks": ((1, 1), (1, 1, 1), (1, 1, 1, 1))},
    "bihrnet": {"width": 8, "planes": 8, "modules": (1, 1, 1), "blocks": ((1, 1), (1, 1, 1), (1, 1, 1, 1))},
    "higherhrnet": {"width": 8, "planes": 8, "deconv_channels": 8, "deconv_blocks": 1},
    "hourglass": {"channels": (16, 16, 16), "blocks": (1, 1, 1)},
    "vitpose": {"dim": 48, "depth": 2, "heads": 2, "grid": (8, 6), "drop_path": 0.0},
    "litepose": {"blocks": (1, 1, 1, 1)},
    "efficientlite": {},
    "rmpg": {},
}
SKELETONS = {"mpii": "mpii16", "crowdpose": "crowdpose14"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four plain photographs, one person each, drawn as bright dots, with the joints that each data set labels."""
    folder_ = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for joints in (14, 16, 17):
        base = folder_ / str(joints)
        (base / "images").mkdir(parents=True)
        images, people = [], []
        for i in range(4):
            picture = np.full((128, 96, 3), 90, np.uint8)
            xy = rng.uniform(16, 80, (joints, 2)) * (1, 1.3)
            for k, (x, y) in enumerate(xy):
                cv2.circle(picture, (int(x), int(y)), 4, tuple(int(v) for v in np.eye(3)[k % 3] * 250), -1)
            cv2.imwrite(str(base / "images" / f"{i}.png"), picture)
            table = np.concatenate([xy, np.full((joints, 1), 2)], 1)
            images.append({"id": i, "file_name": f"{i}.png", "width": 96, "height": 128})
            person = {"id": i, "image_id": i, "category_id": 1, "bbox": [8, 10, 80, 108], "area": 4000.0}
            people.append({**person, "num_keypoints": joints, "keypoints": table.ravel().tolist(), "iscrowd": 0})
        (base / "train.json").write_text(json.dumps({"images": images, "annotations": people}))
    return folder_


def shown(root, skeleton):
    from edgepose.data.coco import read_json

    base = root / str(len(skeleton))
    return read_json(base / "train.json", "images", base, skeleton)


TWINS = (  # shrunken, the same as others
    "bihrnet-w48",
    "bihrnet-w32-384x288",
    "bihrnet-w32-mpii-step1",
    "litepose-supernet-crowdpose",
)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n.startswith(TWINS) else n for n in recipes.names()]
)
def test_a_few_steps_lower_the_loss(root, tmp_path, name):
    plan = recipes.find(name)
    assert plan.model in models.names()
    from edgepose.skeleton import SKELETONS as KNOWN

    skeleton = KNOWN[SKELETONS.get(plan.photographs[0][0], "coco17")]
    records = shown(root, skeleton)
    card = models.card(plan.model, skeleton)
    arch = runs.changed({**card.arch, **SHRUNK[card.family]}, plan, skeleton)
    if card.family == "rmpg":  # what refines it, on a quicker host
        card = models.card("simplebaseline-r18", skeleton)
        arch = {**card.arch, **SHRUNK["simplebaseline"], "refine": arch["refine"]}
    if arch.get("refine"):  # on small features
        arch["refine"]["place"] = int(card.family == "simplebaseline")
    if card.family == "higherhrnet":
        arch["modules"] = [1] * len(arch["modules"])
        arch["blocks"] = [[1] * len(stage) for stage in arch["blocks"]]
    size = 64 if isinstance(card.codec, BottomUp) else ((96, 128) if card.family != "hourglass" else (128, 128))
    codec = replace(card.codec, **{**plan.codec, "input_size": size})
    short = replace(
        plan, steps=8, epochs=0.0, batch=4, accumulate=1, singles=(), resolutions=(), warmup=1, schedule="constant",
        local_steps=1, lr=min(plan.lr, 2e-3), arch={}, codec={},
        channels_last=False,  # torch 2.13 frees memory twice for some very narrow convolutions in that layout
        augment=replace(plan.augment, mosaic=0, occlusion=0, colour=0), ema=0.0, seed=1,
    )  # fmt: skip
    if plan.search.space:  # a supernet, its largest network among the subnets of every step
        how = replace(plan.search, space={**plan.search.space, "size": (64,)}, hold=1, sandwich=True)
        short = replace(short, search=how)
    torch.manual_seed(0)
    net = models.build(replace(card, arch=arch))
    sample = Sampler(Space.of(net.arch, 64, short.search.space), short.search) if plan.search.space else None
    short, samples = train.samples(short, codec, root, records)
    batch = torch.utils.data.default_collate([samples[100 + i] for i in range(4)])
    loss = train.objective(short, codec)

    def now(network):
        network.train()
        with torch.no_grad():
            return float(loss(network(batch["image"]), batch, None)["loss"])

    before = now(net)
    after, _ = train.fit(short, samples, tmp_path, Fabric(accelerator="cpu", devices=1), net, workers=0, sample=sample)
    assert now(after) < 0.97 * before


def test_the_heads_of_other_joints_start_anew_on_a_known_trunk(tmp_path):
    from edgepose.models import efficientlite
    from edgepose.skeleton import Skeleton

    source = models.build(models.card("efficientlite-0"))
    torch.save({"ema": source.state_dict()}, tmp_path / "a.ckpt")
    own = Skeleton("three", ("head", "left_hand", "right_hand"), (), (0.1, 0.1, 0.1))
    for name in ("efficientlite-0", "efficientlite-0-person"):
        net = models.build(models.card(name, own))
        runs.start(net, efficientlite, tmp_path / "a.ckpt")
        assert torch.equal(net.stages[6][0].project[0].weight, source.stages[6][0].project[0].weight)
    net = models.build(models.card("litepose-xs"))
    with pytest.raises(ValueError, match="does not fit this network"):
        runs.start(net, folder.entry("edgepose.models", "litepose"), tmp_path / "a.ckpt")
