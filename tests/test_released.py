"""The key list of every released checkpoint: weights of those shapes become a model folder, and that predicts."""

import _official
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from edgepose import importer, load, weights  # noqa: E402

MPII = [f"simplebaseline-{r}-mpii" for r in ("r50", "r101", "r152")] + ["hrnet-w32-mpii", "hrnet-w48-mpii"]
COCO = [name.replace("mpii", "coco") for name in MPII] + ["higherhrnet-w32-coco", "higherhrnet-w48-coco"]
MMPOSE = [f"mmpose-{name}-coco" for name in ("res50", "res101", "hrnet-w32", "hrnet-w48", "hourglass52")]
LITEPOSE = [f"litepose-{size}-{data}" for size in ("xs", "s", "m", "l") for data in ("coco", "crowdpose")]
HOURGLASS = [f"hourglass-{stacks}-mpii" for stacks in (1, 2, 8)]
QUICK = {"simplebaseline-r50-coco", "hrnet-w32-mpii", "higherhrnet-w32-coco", "hourglass-1-mpii", "litepose-xs-coco"}
NAMES = [*COCO, *MPII, *MMPOSE, *LITEPOSE, *HOURGLASS]


def imported(shared, name, folder, monkeypatch, runtimes=("pytorch",)):
    """Import random weights of the shapes of `name`, small inputs where the input is free; the folder's card."""
    monkeypatch.setattr(importer, "save", lambda out, card, net: weights.save(out, card, net, runtimes))
    torch.save(_official.weights(shared, name), folder / f"{name}.pth")
    whole = name.startswith(("litepose", "higherhrnet"))
    return importer.import_checkpoint(folder / f"{name}.pth", folder / name, (128, 128) if whole else None)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_import_and_predict(shared, name, tmp_path, monkeypatch, photos):
    card = imported(shared, name, tmp_path, monkeypatch)
    assert card.params == _official.parameters(shared, name)
    model = load(tmp_path / name, threads=1, flip=False)
    joints = {"coco": 17, "mpii": 16, "crowdpose": 14}[name.rsplit("-", 1)[1]]
    poses = model(sorted(photos.glob("*.jpg"))[0])
    assert poses.xy.shape[1:] == (joints, 2)
    assert np.isfinite(poses.xy).all()
    golden = np.load(shared / "golden" / "networks.npz")
    if f"{name}/input" in golden:
        shape = (1, 3, *golden[f"{name}/input"])
        maps = model.run(np.random.default_rng(7).standard_normal(shape).astype(np.float32))
        for i, found in enumerate(maps):
            sample = golden[f"{name}/{i}/sample"]
            flat = found.ravel()[np.linspace(0, found.size - 1, 4096).astype(int)]
            assert np.linalg.norm(flat - sample) < 1e-4 * np.linalg.norm(sample)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n in QUICK or n.startswith("mmpose")])
def test_import_for_onnx(shared, name, tmp_path, monkeypatch, photos):
    """The folder as the command writes it, with both engines, which agree."""
    pytest.importorskip("onnxscript")
    card = imported(shared, name, tmp_path, monkeypatch, ("pytorch", "onnx"))
    size = card.codec.input_size
    batch = np.random.default_rng(0).standard_normal((1, 3, *((128, 128) if isinstance(size, int) else size[::-1])))
    runs = [load(tmp_path / name, runtime=r, threads=1).run(batch.astype(np.float32)) for r in ("pytorch", "onnx")]
    for a, b in zip(*runs, strict=True):
        assert abs(a - b).max() <= 1e-4 * abs(a).max()
