"""Small networks that take a refinement, for the tests of RMPG."""

from itertools import pairwise

import torch

from edgepose.models import efficientlite, hourglass, hrnet, litepose, rmpg, simplebaseline, vitpose
from edgepose.skeleton import COCO17

HOSTS = {  # small networks that take a refinement, and a size of their input (h, w)
    "simplebaseline": (simplebaseline, simplebaseline.Arch(17, (1, 1, 1, 1), False, 8, (16, 16, 16)), (64, 96)),
    "hourglass": (hourglass, hourglass.Arch(17, 2, (16,) * 3, (1,) * 3), (64, 64)),
    "hourglass52": (hourglass, hourglass.Arch(17, 2, (16,) * 3, (1,) * 3, True), (64, 64)),
    "vitpose": (vitpose, vitpose.Arch(17, 64, 1, 1, grid=(4, 3), deconv_channels=(16, 16), drop_path=0.0), (64, 48)),
    "vitpose-simple": (vitpose, vitpose.Arch(17, 64, 1, 1, grid=(4, 3), deconv_channels=(), drop_path=0.0), (64, 48)),
    "hrnet": (hrnet, hrnet.Arch(17, 8, 8, (1, 1, 1), ((1, 1), (1, 1, 1), (1, 1, 1, 1))), (64, 64)),
    "litepose": (litepose, litepose.Arch(17, 8, (8,) * 4, (1,) * 4, deconv_channels=(8, 8, 8)), (64, 64)),
    "efficientlite": (efficientlite, efficientlite.Arch(17, 6, (16, 8), (4, 4), 0.0), (64, 64)),
}
ONE_AT_A_TIME = [name for name in HOSTS if name != "litepose"]
KINDS = ["graph", "attention", "control"]
PARTS = rmpg.sizes(COCO17)


def stirred(net):
    """`net` with everything off its first values, so that nothing is the identity or zero."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.2 * torch.randn_like(p))
        for name, buffer in net.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand_like(buffer) + (0.5 if name.endswith("var") else -0.5))
    return net.eval()


def idle(net):
    """Names of the biases that a BatchNorm takes off again: in training their gradient is rounding alone."""
    rows = {name: list(m) for name, m in net.named_modules() if isinstance(m, torch.nn.Sequential)}
    kinds = torch.nn.Conv2d, torch.nn.BatchNorm2d
    return {
        f"{name}.{i}.bias"
        for name, row in rows.items()
        for i, pair in enumerate(pairwise(row))
        if all(map(isinstance, pair, kinds))
    }
