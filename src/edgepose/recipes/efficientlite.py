"""EfficientNet-Lite0 under the fusion deconv head, on small copies of COCO photographs and LSP-Extended."""

from edgepose.train import Recipe

RECIPES = {
    "0": Recipe(
        "efficientlite-0",
        photographs=(("coco", "small"),),
        singles=(("lsp", "train"), ("coco", "small")),
        validation=(("coco", "train115"),),
        steps=5600,
        resolutions=((0.0, 192), (0.64, 256)),
    ),
}
