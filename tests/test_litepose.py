"""LitePose equals the original: state-dict layout, inference of sizes, forward pass, gradients."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgepose.models.litepose import ARCHS, Arch, LitePose, infer, native  # noqa: E402

OFFICIAL = [f"litepose-{name}-{data}" for name in ("xs", "s", "m", "l") for data in ("coco", "crowdpose")]
VARIANTS = {
    "3x3": Arch(kernels=(3,) * 4),
    "9x9, one stage 7x7": Arch(kernels=(9, 9, 7, 9)),
    "plain deconvolution": Arch(fusion=False),
    "deconvolutions of kernel 2 and 3": Arch(deconv_kernels=(2, 3, 4)),
    "shallow, expansion 4": Arch(blocks=(1, 2, 3, 1), expansion=4, joints=14),
}


def closed_form_weights(net):
    """Weights from sines, seeded by the key: (flat index, CRC-32 of the key) -> value, in float64."""
    for key, tensor in net.double().state_dict().items():
        if tensor.dtype == torch.int64:
            continue
        i = torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
        u = torch.sin(0.7 * i + zlib.crc32(key.encode()) % 1009)
        if tensor.ndim == 4:
            u = u * (2 * tensor.shape[0] / tensor.numel()) ** 0.5
        elif key.endswith("running_var"):
            u = 1 + 0.1 * u.abs()
        elif key.endswith(".weight"):
            u = 1 + 0.1 * u
        else:
            u = 0.1 * u
        tensor.copy_(u)
    return net.eval()


GOLDEN = [  # computed with the authors' code: shape, mean, deviation, absolute maximum, [0,0,0,0], [0,3,5,7], last
    ((1, 34, 32, 24), 0.0031623619311137675, 2.416620864147261, 9.152326644326907)
    + (0.44676553205437874, 1.135364346029468, 0.7283420215206071),
    ((1, 17, 64, 48), -0.23809193407180743, 4.191733326231641, 14.988132543377839)
    + (0.11595302616737782, -1.526226793472662, -0.12757733231587576),
]


def test_forward_equals_the_original():
    net = closed_form_weights(LitePose(ARCHS["xs"][0]))
    c, i, j = np.ogrid[:3, :128, :96]
    with torch.no_grad():
        outputs = net(torch.from_numpy(np.sin(0.05 * i + 0.11 * j + c))[None])
    assert len(outputs) == 2
    for out, (shape, *values) in zip(outputs, GOLDEN, strict=True):
        assert tuple(out.shape) == shape
        found = [out.mean(), out.std(), out.abs().max(), out[0, 0, 0, 0], out[0, 3, 5, 7]]
        found = [float(v) for v in (*found, out.flatten()[-1])]
        np.testing.assert_allclose(found, values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OFFICIAL)
def test_state_dict_layout(shared, name):
    """Keys, their order and shapes are those of the official checkpoint."""
    lines = (shared / "checkpoints" / f"{name}.txt").read_text().splitlines()
    _, arch, data = name.split("-")
    net = LitePose(replace(ARCHS[arch][0], joints=17 if data == "coco" else 14))
    ours = [f"{k}\t{','.join(map(str, v.shape))}" for k, v in net.state_dict().items()]
    assert ours == [line for line in lines if line and not line.startswith("#")]
    assert len(ours) == 679


def test_supernet_layout_without_its_kernel_transforms(shared):
    lines = (shared / "checkpoints" / "litepose-supernet.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line and ".Linear" not in line]
    shapes = {key: tuple(int(n) for n in shape.strip("()").split(",") if n.strip()) for key, shape, _ in rows}
    arch = infer({k: torch.empty(s, device="meta") for k, s in shapes.items()})
    assert arch == replace(ARCHS["prune-l"][0], joints=14)
    assert {k: tuple(v.shape) for k, v in LitePose(arch).state_dict().items()} == shapes


@pytest.mark.parametrize("arch", [*(a for a, _ in ARCHS.values()), *VARIANTS.values()], ids=[*ARCHS, *VARIANTS])
@pytest.mark.parametrize("joints", [14, 17])
def test_arch_is_inferred_from_shapes(arch, joints):
    arch = replace(arch, joints=joints)
    with torch.device("meta"):
        assert infer(LitePose(arch).state_dict()) == arch


@pytest.mark.parametrize("arch", VARIANTS.values(), ids=VARIANTS)
def test_outputs_and_gradients_of_variants(arch):
    net = LitePose(arch)
    outputs = net(torch.randn(2, 3, 64, 96))
    assert [tuple(o.shape) for o in outputs] == [(2, 2 * arch.joints, 16, 24), (2, arch.joints, 32, 48)]
    sum((o * torch.randn_like(o)).sum() for o in outputs).backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def mmpose_name(key):
    """The key of the authors' LitePose in MMPose's layout (its pull request 1486)."""
    module, field = key.rsplit(".", 1)
    parts = module.split(".")
    kind = "conv" if parts[-1] in "03" else "bn"
    if parts[0] == "first":
        at = parts[1] if len(parts) == 3 else "2"
        return f"backbone.first.{at}.{'conv' if module in ('first.0.0', 'first.1.0', 'first.2') else 'bn'}.{field}"
    if parts[0] == "stage":
        at = ("inv", "depth_conv", "point_conv").index(parts[3])
        return f"backbone.stage.{parts[1]}.{parts[2]}.conv.{at}.{kind}.{field}"
    if parts[0].startswith("final"):
        return f"keypoint_head.{parts[0]}.{parts[1]}.conv.{1 if parts[3] == '3' else 0}.{kind}.{field}"
    return f"keypoint_head.{key}"


def test_the_layout_of_mmpose():
    with torch.device("meta"):
        state = LitePose().state_dict()
    theirs = {mmpose_name(key): value for key, value in state.items()}
    assert "backbone.stage.0.0.conv.1.bn.running_mean" in theirs
    assert list(native(theirs)) == list(state)
    assert list(native(state)) == list(state)


def test_not_a_litepose():
    with pytest.raises(ValueError, match="not a LitePose checkpoint"):
        infer({"conv1.weight": torch.zeros(64, 3, 7, 7)})


@pytest.mark.parametrize(
    "wrong", [{"channels": (16, 32)}, {"kernels": (4,) * 4}, {"deconv_kernels": (5,) * 3}, {"deconv_channels": (8,)}]
)
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        Arch(**wrong)
