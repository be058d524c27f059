"""LitePose (CVPR 2022)."""

from edgepose.train import Recipe

RECIPES = {
    "xs": Recipe(
        "litepose-xs",
        photographs=(("coco", "small"),),
        singles=(("lsp", "train"), ("coco", "small")),
        validation=(("coco", "train115"),),
        steps=4000,
        lr=2e-3,
        resolutions=((0.0, 192), (0.7, 256)),
    ),
}
