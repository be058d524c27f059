"""ViTPose equals the original: layouts, forward pass, cost; MAE weights land in its trunk; blocks are left out."""

from dataclasses import replace

import _official
import pytest

torch = pytest.importorskip("torch")

from edgepose import optim  # noqa: E402
from edgepose.cost import cost  # noqa: E402
from edgepose.models import vitpose  # noqa: E402
from edgepose.models.vitpose import ARCHS, Arch, build, infer, load_imagenet, native  # noqa: E402

HUGGING_FACE = [f"vitpose-{size}-{head}-coco-hf" for size in "sb" for head in ("classic", "simple")]
MMPOSE = [f"mmpose-vitpose-{size}{head}-coco" for size in "sb" for head in ("", "-simple")]
FIGURES = {  # million parameters, and what the authors and MMPose print as GFLOPs: 10^9 multiply-adds, counted as we do
    "s": (24.3, 5.6), "s-simple": (21.7, 4.7), "b": (90.0, 18.5), "b-simple": (85.9, 17.5),
    "l": (308.5, 61.6), "l-simple": (303.5, 60.4), "h": (637.2, 125.8), "h-simple": (631.1, 124.6),
}  # fmt: skip
SMALL = Arch(dim=32, depth=2, heads=4, grid=(4, 3), deconv_channels=(8, 8), drop_path=0.5)


@pytest.mark.parametrize("name", [*HUGGING_FACE, *MMPOSE])
def test_layout_equals_the_released_files(shared, name):
    """Every tensor finds its place; the arch is one of ours, but for the class position that MMPose leaves out."""
    meta = {key: torch.empty(shape, device="meta") for key, shape in _official.shapes(shared, name).items()}
    state = native(meta)
    arch = infer(state)
    with torch.device("meta"):
        net = build(arch)
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert sum(p.numel() for p in net.parameters()) == _official.parameters(shared, name)
    variant = name.removeprefix("mmpose-").split("-")[1] + ("-simple" if "simple" in name else "")
    assert replace(arch, class_position=True) == ARCHS[variant][0]
    assert arch.class_position == name.startswith("vitpose")


@pytest.mark.parametrize("name", ["vitpose-s-simple-coco-hf", "mmpose-vitpose-s-coco"])
def test_forward_equals_the_original(shared, name):
    _official.check_golden(shared, name, vitpose)


@pytest.mark.parametrize("name", FIGURES)
def test_published_figures(name):
    arch, (w, h) = ARCHS[name]
    params, printed = FIGURES[name]
    with torch.device("meta"):
        net = build(arch)
    found = cost(net, (h, w))
    assert found.params / 1e6 == pytest.approx(params, abs=0.06)
    assert found.macs / 1e9 == pytest.approx(printed, abs=0.06)


def test_mae_weights_land_in_the_trunk_and_positions_are_interpolated(tmp_path):
    torch.manual_seed(0)
    source, net = build(replace(SMALL, grid=(5, 5))), build(SMALL)
    given = {k: torch.randn_like(v) for k, v in source.state_dict().items() if not k.startswith(("deconv", "final"))}
    given = {k.replace("last_norm", "norm"): v for k, v in given.items()} | {"cls_token": torch.zeros(1, 1, 32)}
    ramp = torch.arange(5.0).repeat_interleave(5)[None, :, None].expand(1, 25, 32)  # rises down the picture
    given["pos_embed"] = torch.cat([torch.full((1, 1, 32), 7.0), ramp], 1)
    torch.save({"model": given}, tmp_path / "mae.pth")
    load_imagenet(net, str(tmp_path / "mae.pth"))
    assert torch.equal(net.blocks[1].attn.qkv.weight, given["blocks.1.attn.qkv.weight"])
    assert torch.equal(net.last_norm.bias, given["norm.bias"])
    assert (net.pos_embed[0, 0] == 7).all()
    rows = net.pos_embed[0, 1:, 0].view(4, 3)
    assert torch.allclose(rows, rows[:, :1].expand(4, 3), atol=1e-5) and (rows[1:, 0] > rows[:-1, 0]).all()
    given.pop("blocks.0.norm1.weight")
    torch.save(given, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"is no ViT of 32 channels and 2 blocks: \['blocks.0.norm1.weight'\] differ"):
        load_imagenet(net, str(tmp_path / "bad.pth"))


def test_blocks_are_left_out_in_training_alone():
    torch.manual_seed(0)
    net, x = build(SMALL), torch.randn(64, 3, 64, 48)
    tokens = net.patch_embed(x)
    block = net.blocks[1].train()
    same = [(block(tokens)[i] - tokens[i]).abs().max() == 0 for i in range(64)]
    assert 5 < sum(same) < 28, "a quarter of the pictures skip both halves of a block dropped half the time"
    assert torch.equal(net.blocks[0].train()(tokens), net.blocks[0].eval()(tokens)), "the first block stays"
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])
    mean = torch.stack([block.train()(tokens) for _ in range(400)]).mean(0) - tokens
    first = block.eval().attn(block.norm1(tokens))
    torch.testing.assert_close(mean[:, 0].mean(0), (block(tokens) - tokens)[:, 0].mean(0), atol=0.05, rtol=0.2)
    assert first.shape == tokens.shape


def test_layers_number_every_parameter_by_its_depth():
    net = build(SMALL)
    depth = net.layers()
    assert set(depth) == {name for name, _ in net.named_parameters()}
    assert (depth["pos_embed"], depth["blocks.0.norm1.weight"], depth["blocks.1.mlp.fc2.bias"]) == (0, 1, 2)
    assert depth["final_layer.weight"] == depth["last_norm.weight"] == 3
    scales = {g["scale"] for g in optim.groups(net, 0.1, 0.5)}
    assert scales == {1.0, 0.5, 0.25, 0.125}


def test_misuse_is_named():
    with pytest.raises(ValueError, match="384 channels cannot be shared by 7"):
        Arch(dim=384, heads=7)
    with pytest.raises(ValueError, match="0 or 2 deconvolutions"):
        Arch(deconv_channels=(256,))
    with pytest.raises(ValueError, match="not a ViTPose checkpoint"):
        infer({"pos_embed": torch.zeros(1, 193, 384)})


@pytest.mark.parametrize("head", ["classic", "simple"])
def test_agrees_with_transformers(head):
    """The independent implementation in Hugging Face's library, small, with random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    trunk = transformers.VitPoseBackboneConfig(
        image_size=[256, 192], hidden_size=128, num_hidden_layers=3, num_attention_heads=2, num_experts=1
    )
    config = transformers.VitPoseConfig(backbone_config=trunk, use_simple_decoder=head == "simple", num_labels=17)
    theirs = transformers.VitPoseForPoseEstimation(config).eval()
    for key, value in theirs.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if key.endswith("running_var") else torch.randn_like(value) * 0.2)
    state = native(theirs.state_dict())
    net = build(infer(state)).eval()
    net.load_state_dict(state)
    images = torch.randn(2, 3, 256, 192)
    with torch.inference_mode():
        expected, found = theirs(images).heatmaps, net(images)[0]
    assert expected.abs().max() > 0.1
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
