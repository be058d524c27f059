from dataclasses import replace

import _tiny
import numpy as np
import pytest

import edgepose
from edgepose.card import Card

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.fixture
def folder(tmp_path):
    network, card = _tiny.litepose()
    edgepose.save(tmp_path / "m", card, network, ("pytorch",))
    return tmp_path / "m"


def test_weights_come_back_as_they_were(folder):
    from safetensors.torch import load_file

    network, _ = _tiny.litepose()
    state = load_file(folder / "model.safetensors")
    assert state.keys() == network.state_dict().keys()
    assert all((state[k] == v).all() for k, v in network.state_dict().items())
    assert Card.read(folder).weights == {"pytorch": "model.safetensors"}
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == (folder / "card.json").stat().st_mode & 0o777


def test_maps_are_the_networks(folder):
    network, _ = _tiny.litepose()
    images = _tiny.batch(2, 64, 96)
    maps = edgepose.load(folder).run(images)
    for a, b in zip(maps, network(torch.from_numpy(images)), strict=True):
        assert a.flags.c_contiguous
        assert np.abs(a - b.detach().numpy()).max() <= 1e-5 * np.abs(a).max()


def test_half_weights(tmp_path):
    network, card = _tiny.litepose()
    edgepose.save(tmp_path / "half", card, network, ("pytorch",), half=True)
    edgepose.save(tmp_path / "full", card, network, ("pytorch",))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.8 * sizes[1]
    images = _tiny.batch(1, 64, 64)
    half, full = (edgepose.load(tmp_path / name).run(images)[-1] for name in ("half", "full"))
    assert 0 < np.abs(half - full).max() < 1e-2 * np.abs(full).max()


@pytest.mark.parametrize("damage", ["empty", "junk", "cut", "other shapes"])
def test_damaged_files(folder, damage):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    if damage == "other shapes":
        card = Card.read(folder)
        replace(card, arch={**card.arch, "stem": 16}).write(folder)
    else:
        path.write_bytes({"empty": b"", "junk": b"junk" * 1000, "cut": whole[:-100]}[damage])
    with pytest.raises(ValueError, match="cannot use") as error:
        edgepose.load(folder)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_architecture(folder):
    replace(Card.read(folder), model="lightpose-xs").write(folder)
    with pytest.raises(ValueError, match="Did you mean 'litepose'"):
        edgepose.load(folder)


@pytest.mark.parametrize("device", ["tpu9", "cuda:99"])
def test_devices_that_are_not_there(folder, device):
    with pytest.raises(ValueError, match="no device"):
        edgepose.load(folder, device=device)
