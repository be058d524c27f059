"""Certificates: what an exported model changes in the poses of its source, in pixels, kept in its folder.

`certificate.json` holds limits, figures and the source's poses of a few pictures, which lie beside it; so the same
comparison can be made again where the model will run (`edgepose verify`), without the source, PyTorch or a data set.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from edgepose.card import typed
from edgepose.codecs import Image
from edgepose.poses import Poses
from edgepose.predictor import load
from edgepose.results import write_whole
from edgepose.sources import read_image
from edgepose.weights import find

FILE, PICTURES = "certificate.json", "certificate"  # in the model folder; the latter holds the pictures
SEEN, GONE = 0.15, 0.8  # score from which a person counts; share of it below which they are lost
SURE = 0.1  # score from which the source's joints are compared: lower ones may be anywhere in the picture
FAR = 0.25  # mean distance, over the size of the person, from which two poses are of different people


@dataclass(frozen=True)
class Limits:
    """What a product may change. mean, p95, most: of the shift of joints, pixels: 95th of 100, and the largest (None is
    any: a joint that the source saw in two places may change between them). people: share of people lost and gained.
    score: loss of the data set's first figure (AP, PCK), where one is given."""

    mean: float
    p95: float
    most: float | None
    people: float
    score: float


LIMITS = {  # by how weights are stored
    "float32": Limits(0.01, 0.05, 0.05, 0.0, 0.001),
    "float16": Limits(0.1, 0.5, 2.0, 0.0, 0.005),
    "int8": Limits(1.0, 4.0, None, 0.1, 0.02),
}


@dataclass(frozen=True)
class Figures:
    """What a product changed. pictures, people, joints: compared (those the source is sure of). lost, gained: people.
    mean, p95, most: of the shift of joints, pixels of the pictures. scores: largest change of a joint's score."""

    pictures: int
    people: int
    joints: int
    lost: int
    gained: int
    mean: float
    p95: float
    most: float
    scores: float

    def faults(self, limits: Limits) -> list[str]:
        """The limits that are broken, in words."""
        found = []
        for name in ("mean", "p95", "most"):
            value, limit = getattr(self, name), getattr(limits, name)
            if limit is not None and not value <= limit:
                found.append(f"{name} shift {value:.3g} px is over {limit:g}")
        if self.lost + self.gained > limits.people * self.people:
            found.append(f"{self.lost} of {self.people} people lost, {self.gained} gained")
        return found + ["nobody to compare: give pictures with people (--pictures)"] * (self.joints == 0)

    def __str__(self) -> str:
        return (
            f"{self.pictures} pictures, {self.people} people, {self.joints} joints: shift mean {self.mean:.2g}, "
            f"95 % {self.p95:.2g}, most {self.most:.2g} px; {self.lost} lost, {self.gained} gained"
        )


def figures(source: Sequence[Poses], product: Sequence[Poses], paired: bool) -> Figures:
    """What the `product`'s poses of the same pictures change. paired: both have one person for each box, in order."""
    shifts, scores, lost, gained, people = [np.zeros(0)], [0.0], 0, 0, 0
    for ours, theirs in zip(source, product, strict=True):
        pairs = [(i, i) for i in range(len(ours))] if paired else _pairs(ours, theirs)
        seen, other = np.asarray(ours.person_scores), np.asarray(theirs.person_scores)
        match = dict(pairs)
        for i in np.flatnonzero(seen >= SEEN).tolist():
            people += 1
            if i not in match or other[match[i]] < GONE * SEEN:
                lost += 1
                continue
            sure = ours.scores[i] >= SURE
            apart = np.linalg.norm(ours.xy[i] - theirs.xy[match[i]], axis=1)[sure]
            shifts.append(np.where(np.isfinite(apart), apart, 1e9))
            scores.append(float(np.abs(ours.scores[i] - theirs.scores[match[i]]).max()))
        known = {b: a for a, b in pairs}
        gained += sum(i not in known or seen[known[i]] < GONE * SEEN for i in np.flatnonzero(other >= SEEN).tolist())
    shift = np.concatenate(shifts)
    spread = (shift.mean(), np.percentile(shift, 95), shift.max()) if len(shift) else (0.0, 0.0, 0.0)
    rounded = [round(float(v), 6) for v in (*spread, max(scores))]
    return Figures(len(source), people, len(shift), lost, int(gained), *rounded)


def _pairs(ours: Poses, theirs: Poses) -> list[tuple[int, int]]:
    """The same people in two results, nearest first: the mean distance of joints that both have, below `FAR`."""
    found = []
    for i, a in enumerate(ours):
        size = max(float(np.ptp(a.xy[a.scores > 0], axis=0).max()) if (a.scores > 0).any() else 0.0, 8.0)
        for k, b in enumerate(theirs):
            both = (a.scores >= SURE) & (b.scores > 0)
            if both.any():
                apart = float(np.linalg.norm(a.xy - b.xy, axis=1)[both].mean()) / size
                found.append((apart, i, k))
    pairs, left, right = [], set(range(len(ours))), set(range(len(theirs)))
    for apart, i, k in sorted(found):
        if apart <= FAR and i in left and k in right:
            pairs.append((i, k))
            left.discard(i)
            right.discard(k)
    return pairs


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class View:
    """A picture of a certificate. boxes: (N, 4) that a model of one person at a time looks at, else None. poses: what
    the source finds."""

    name: str
    image: Image
    boxes: NDArray[np.float32] | None
    poses: Poses


def write(
    folder: Path, kind: str, views: Sequence[View], found: Figures | None, extra: dict[str, Any]
) -> tuple[bool | None, list[str]]:
    """Write the certificate of the product in `folder`; whether it passes, and the limits it breaks.

    kind: how its weights are stored (`LIMITS`). found: None where the product could not be run, so that it neither
    passes nor fails. extra: figures of a data set and what they were (`export.score_change`).
    """
    (folder / PICTURES).mkdir(exist_ok=True)
    rows = []
    for view in views:
        ok, data = cv2.imencode(".png", view.image[..., ::-1])
        assert ok
        write_whole(folder / PICTURES / f"{view.name}.png", data.tobytes())
        boxes = None if view.boxes is None else np.round(view.boxes.astype(float), 3).tolist()
        rows.append({"file": f"{view.name}.png", "boxes": boxes, "people": _plain(view.poses)})
    limits, faults = LIMITS[kind], found.faults(LIMITS[kind]) if found else []
    passed = None if found is None else not faults
    if extra.get("score_change", 0.0) < -limits.score:
        faults.append(f"{extra['figure']} falls by {-extra['score_change']:.4f}, over {limits.score:g}")
        passed = False
    files = {p.name: digest(p) for p in sorted(folder.iterdir()) if p.name.startswith("model")}
    about: dict[str, Any] = {"format": 1, "passed": passed, "faults": faults, "weights": kind, "files": files}
    about |= {"limits": asdict(limits), "figures": found and asdict(found), "data": extra or None}
    about |= {"machine": f"{platform.system()} {platform.machine()}", "pictures": rows}
    write_whole(folder / FILE, (json.dumps(about, indent=1, allow_nan=False) + "\n").encode())
    return passed, faults


def _plain(poses: Poses) -> list[dict[str, Any]]:
    """Poses as JSON values that lose nothing that is compared."""
    return [
        {"score": round(p.score, 6), "xy": np.round(p.xy.astype(float), 4).tolist(),
         "scores": np.round(p.scores.astype(float), 6).tolist()} for p in poses
    ]  # fmt: skip


def read(folder: Path, skeleton: Any) -> tuple[Limits, dict[str, str], list[View]]:
    """Limits, digests of the certified files and views of a folder; `ValueError` names what is missing or broken."""
    path = folder / FILE
    try:
        about = json.loads(path.read_bytes())
        views = []
        for row in about["pictures"]:
            people = row["people"]
            arrays = [np.array([p[key] for p in people], np.float32) for key in ("xy", "scores", "score")]
            poses = Poses(arrays[0], arrays[1], skeleton, arrays[2]) if people else Poses.empty(skeleton)
            boxes = None if row["boxes"] is None else np.array(row["boxes"], np.float32).reshape(-1, 4)
            name = Path(row["file"]).name
            views.append(View(Path(name).stem, read_image(folder / PICTURES / name), boxes, poses))
        return typed(Limits, about["limits"], "limits."), dict(about["files"]), views
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {FILE}: it was not made by `edgepose export`") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a usable certificate: {error!r}") from error
    except ValueError as error:  # broken JSON and broken UTF-8 too
        raise ValueError(f"{path} is not a usable certificate: {error}") from error


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder (.mlpackage) by name."""
    total = hashlib.sha256()
    for part in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        total.update(str(part.relative_to(path)).encode() if path.is_dir() else b"")
        total.update(part.read_bytes())
    return total.hexdigest()


def looked(predict: Callable[..., Poses], views: Sequence[View]) -> list[Poses]:
    """What `predict` finds in the pictures of `views`, in their boxes where they have some."""
    return [predict(view.image) if view.boxes is None else predict(view.image, view.boxes) for view in views]


def verify(
    model: Annotated[Positional[str], arg(metavar="FOLDER")],
    runtime: Annotated[str | None, arg(metavar="NAME")] = None,
    device: str = "cpu",
    threads: Annotated[int | None, arg(metavar="N")] = None,
) -> int:
    """Repeat the certificate of an exported model on this machine; exit code 1 when it fails.

    Only files of the folder and the engine are needed: no PyTorch, no data set.

    Args:
        model: the folder that `edgepose export` made.
        runtime: engine to run it with, where the folder has weights for several.
        device: cpu, cuda, or what the engine calls its devices.
        threads: CPU threads of the network.
    """
    folder = find(model)
    predictor = load(folder, runtime, device, threads)
    codec = predictor.codec
    limits, files, views = read(folder, codec.skeleton)
    predictor.detect = None
    found = figures([view.poses for view in views], looked(predictor, views), views[0].boxes is not None)
    changed = [n for n, known in files.items() if not (folder / n).exists() or digest(folder / n) != known]
    faults = [f"{name} is not the file that was certified" for name in changed] + found.faults(limits)
    print(f"{folder}: {found}")
    known = [f"{name} {value:g}" for name, value in asdict(limits).items() if name != "score" and value is not None]
    print("  limits: " + ", ".join(known))
    for fault in faults:
        print(f"  {fault}")
    print("verified" if not faults else "NOT verified")
    return 1 if faults else 0
