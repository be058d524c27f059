"""ViTPose: simple vision transformer baselines for human pose estimation (Xu et al., NeurIPS 2022, arXiv 2204.12484).

A plain vision transformer over patches of 16 pixels and a light decoder (section 3.1): classic, two transposed
convolutions, or simple, four times bilinear upsampling and a 3x3 convolution. Module names follow the authors'
checkpoints. `forward(images (n, 3, h, w)) -> [(n, J, h/4, w/4)]`, h and w being those of `Arch.grid` times 16.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepose.checkpoint import read_state
from edgepose.codecs.topdown import TopDown
from edgepose.models._keys import bare, count
from edgepose.models._parsegraph import Refine, Refinement, inferred, placed
from edgepose.skeleton import Skeleton

PATCH = 16
HEADS = {384: 12, 768: 12, 1024: 16, 1280: 16}  # width -> attention heads; others have 64 channels a head


@dataclass(frozen=True)
class Arch:
    """Sizes: width of the tokens, blocks, attention heads, width of the hidden layer over `dim`.

    grid: patches down and across. deconv_channels: of the classic decoder; empty is the simple one. class_position:
    whether the weights keep the position of a class token, which is added to all others (the authors' files do,
    MMPose's do not). drop_path: highest probability of leaving a block out in training, rising with depth. refine: RMPG
    between the transformer and the decoder.
    """

    joints: int = 17
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    grid: tuple[int, int] = (16, 12)
    deconv_channels: tuple[int, ...] = (256, 256)
    class_position: bool = True
    drop_path: float = 0.3
    refine: Refine | None = None

    def __post_init__(self) -> None:
        for name in ("grid", "deconv_channels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives lists
        if self.heads < 1 or self.dim % self.heads:
            raise ValueError(f"{self.dim} channels cannot be shared by {self.heads} attention heads")
        if len(self.deconv_channels) not in (0, 2) or len(self.grid) != 2 or self.depth < 1:
            raise ValueError(
                f"ViTPose has 0 or 2 deconvolutions over a grid of two sides; "
                f"got channels {self.deconv_channels}, grid {self.grid}, depth {self.depth}"
            )
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {self.drop_path}")
        placed(self, 1, 1)


class PatchEmbed(nn.Module):
    """Patches of 16 pixels, read two pixels up and to the left, as tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH, padding=2)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(n, tokens, dim))


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Transformer block, normalised first; `drop` is the probability that a picture skips each half in training."""

    def __init__(self, arch: Arch, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.norm1 = nn.LayerNorm(arch.dim, eps=1e-6)
        self.attn = Attention(arch.dim, arch.heads)
        self.norm2 = nn.LayerNorm(arch.dim, eps=1e-6)
        self.mlp = Mlp(arch.dim, int(arch.dim * arch.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._kept(self.attn(self.norm1(x)))
        return x + self._kept(self.mlp(self.norm2(x)))

    def _kept(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop:
            return x
        keep = 1 - self.drop
        return x * torch.empty(len(x), 1, 1, device=x.device, dtype=x.dtype).bernoulli_(keep) / keep


class ViTPose(nn.Module):
    """The network of `Arch`; see the module's docstring for its input and output."""

    def __init__(self, arch: Arch = Arch()) -> None:
        super().__init__()
        self.arch, a = arch, arch.dim
        self.pos_embed = nn.Parameter(torch.zeros(1, arch.grid[0] * arch.grid[1] + arch.class_position, a))
        self.patch_embed = PatchEmbed(a)
        drops = [arch.drop_path * i / max(1, arch.depth - 1) for i in range(arch.depth)]
        self.blocks = nn.ModuleList(Block(arch, drop) for drop in drops)
        self.last_norm = nn.LayerNorm(a, eps=1e-6)
        layers: list[nn.Module] = []
        for b in arch.deconv_channels:
            layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
            a = b
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(a, arch.joints, 1 if layers else 3, padding=0 if layers else 1)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.ConvTranspose2d) or module is self.final_layer:
                nn.init.normal_(module.weight, std=0.001)  # type: ignore[arg-type]
        nn.init.zeros_(self.final_layer.bias)  # type: ignore[arg-type]
        self.refine = Refinement(arch.refine, arch.dim, 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.patch_embed(images)
        position = self.pos_embed
        x = x + (position[:, 1:] + position[:, :1] if self.arch.class_position else position)
        for block in self.blocks:
            x = block(x)
        x, parts = self.refine(self.last_norm(x).transpose(1, 2).unflatten(2, self.arch.grid))
        if not len(self.deconv_layers):
            x = functional.interpolate(functional.relu(x), scale_factor=4.0, mode="bilinear", align_corners=False)
        return [*parts, self.final_layer(self.deconv_layers(x))]

    def layers(self) -> dict[str, int]:
        """Depth of every parameter, for layer-wise learning rates: 0 the patches, 1... the blocks, then the decoder."""
        last = self.arch.depth + 1
        return {
            name: int(name.split(".")[1]) + 1
            if name.startswith("blocks.")
            else 0
            if name.startswith(("pos_embed", "patch_embed."))
            else last
            for name, _ in self.named_parameters()
        }


def build(arch: Arch) -> ViTPose:
    """The network of `arch`, freshly initialised."""
    return ViTPose(arch)


def codec(arch: Arch, skeleton: Skeleton, size: tuple[int, int]) -> TopDown:
    """How the authors' networks read pictures: crops of `size` (w, h) pixels, UDP."""
    return TopDown(skeleton, size, decode_with="udp")


_HUGGING_FACE = (
    (r"backbone\.embeddings\.position_embeddings", "pos_embed"),
    (r"backbone\.embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"backbone\.encoder\.layer\.(\d+)\.attention\.output\.dense", r"blocks.\1.attn.proj"),
    (r"backbone\.encoder\.layer\.(\d+)\.layernorm_before", r"blocks.\1.norm1"),
    (r"backbone\.encoder\.layer\.(\d+)\.layernorm_after", r"blocks.\1.norm2"),
    (r"backbone\.encoder\.layer\.(\d+)\.mlp", r"blocks.\1.mlp"),
    (r"backbone\.layernorm", "last_norm"),
    (r"head\.deconv1", "deconv_layers.0"),
    (r"head\.batchnorm1", "deconv_layers.1"),
    (r"head\.deconv2", "deconv_layers.3"),
    (r"head\.batchnorm2", "deconv_layers.4"),
    (r"head\.conv", "final_layer"),
)
_MMPOSE = (
    (r"patch_embed\.projection", "patch_embed.proj"),
    (r"layers\.(\d+)\.ln", r"blocks.\1.norm"),
    (r"layers\.(\d+)\.ffn\.layers\.0\.0", r"blocks.\1.mlp.fc1"),
    (r"layers\.(\d+)\.ffn\.layers\.1", r"blocks.\1.mlp.fc2"),
    (r"layers\.(\d+)\.attn", r"blocks.\1.attn"),
    (r"ln1", "last_norm"),
)


def native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the keys used here: the authors', MMPose 1.x's or Hugging Face's."""
    if any(key.startswith("backbone.encoder.layer.") for key in state):
        found = dict(state)
        for key in state:
            if key.endswith((".attention.attention.query.weight", ".attention.attention.query.bias")):
                parts = [found.pop(key.replace(".query.", f".{part}."), None) for part in ("query", "key", "value")]
                number, kind = key.split(".")[3], key.rsplit(".", 1)[1]
                if all(part is not None for part in parts):
                    found[f"blocks.{number}.attn.qkv.{kind}"] = torch.cat(parts)  # type: ignore[arg-type]
        return {_renamed(key, _HUGGING_FACE): value for key, value in found.items()}
    state = bare(state)
    return {_renamed(key, _MMPOSE): v for key, v in state.items()} if "layers.0.ln1.weight" in state else dict(state)


def _renamed(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, new in rules:
        if match := re.match(pattern, key):
            return match.expand(new) + key[match.end() :]
    return key


def infer(state: Mapping[str, Tensor]) -> Arch:
    """The `Arch` whose network has the shapes of a state dict in the authors' layout; `ValueError` if it is none."""
    try:
        _, positions, dim = state["pos_embed"].shape
        grids = {h * w: (h, w) for h, w in ((16, 12), (16, 16), (24, 18), (24, 24))}
        classic = "deconv_layers.0.weight" in state
        return Arch(
            joints=state["final_layer.weight"].shape[0],
            dim=dim,
            depth=count(state, "blocks."),
            heads=HEADS.get(dim, dim // 64),
            mlp_ratio=state["blocks.0.mlp.fc1.weight"].shape[0] / dim,
            grid=grids[positions if positions in grids else positions - 1],
            deconv_channels=tuple(state[f"deconv_layers.{i}.weight"].shape[1] for i in (0, 3)) if classic else (),
            class_position=positions not in grids,
            drop_path=next((a.drop_path for a in _ALL.values() if a.dim == dim), 0.0),
            refine=inferred(state),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"not a ViTPose checkpoint: {error}") from error


_HEAD = ("deconv_layers.", "final_layer.", "refine.")


def load_imagenet(net: ViTPose, path: str) -> None:
    """Start the trunk of `net` from a ViT of the same size in the layout of MAE, DINO or timm, without its class head.

    Positions of another grid are interpolated (bicubic). `ValueError` names the first tensors that do not fit.
    """
    given = {k.removeprefix("backbone."): v for k, v in read_state(path)[0].items()}
    given = {re.sub(r"^(norm|fc_norm)\.", "last_norm.", k): v for k, v in given.items()}
    wanted = {k: v for k, v in net.state_dict().items() if not k.startswith(_HEAD)}
    if "pos_embed" in given:
        given["pos_embed"] = _positions(given["pos_embed"], net.arch)
    given.setdefault("last_norm.weight", wanted["last_norm.weight"])  # MAE's fine-tuned files may lack it
    given.setdefault("last_norm.bias", wanted["last_norm.bias"])
    wrong = [k for k, v in wanted.items() if k not in given or given[k].shape != v.shape]
    if wrong:
        raise ValueError(f"{path} is no ViT of {net.arch.dim} channels and {net.arch.depth} blocks: {wrong[:3]} differ")
    net.load_state_dict({k: given[k] for k in wanted}, strict=False)


def _positions(given: Tensor, arch: Arch) -> Tensor:
    """Positions (1, 1 + side * side, dim) of a square grid, or without the first, for the grid of `arch`."""
    side = int(given.shape[1] ** 0.5)
    first, grid = given[:, : given.shape[1] - side * side], given[:, given.shape[1] - side * side :]
    square = grid.transpose(1, 2).unflatten(2, (side, side))
    grid = functional.interpolate(square, size=arch.grid, mode="bicubic", align_corners=False)
    first = first if first.shape[1] else torch.zeros_like(given[:, :1])
    grid = grid.flatten(2).transpose(1, 2)
    return torch.cat([first, grid], 1) if arch.class_position else grid + first


_ALL = {
    "s": Arch(dim=384, drop_path=0.1),
    "b": Arch(),
    "l": Arch(dim=1024, depth=24, heads=16, drop_path=0.5),
    "h": Arch(dim=1280, depth=32, heads=16, drop_path=0.55),
}
_SIMPLE = {f"{name}-simple": replace(arch, deconv_channels=()) for name, arch in _ALL.items()}
_RMPG = {"b-rmpg": replace(_ALL["b"], refine=Refine())}
ARCHS = {
    name: (arch, (192, 256)) for name, arch in (_ALL | _SIMPLE | _RMPG).items()
}  # name -> (Arch, input (w, h) in pixels)
