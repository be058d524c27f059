"""Pictures of a run: curves, sheets, the log."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgepose import contact, report
from edgepose.data import Record
from edgepose.poses import Poses
from edgepose.skeleton import COCO17

PLAN = SimpleNamespace(model="litepose-xs", steps=100, batch=4)


def test_log_averages_counts_and_forgets_what_is_repeated(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 50, "loss": 9}\n{"step": 100, "loss": 8}\n')
    with report.Log(tmp_path, PLAN, 50, 100.0, True) as log:
        for step in range(51, 101):
            log.add({"loss": np.float64(step)})
            log.step(step, 0.1, 100.0 + step - 50, 64)
        log.figures(100, {"AP": 0.5})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [50, 100, 100]
    assert rows[1]["loss"] == pytest.approx(np.mean(range(51, 101)))
    assert rows[1]["rate"] == pytest.approx(50 * 4 / 50)
    assert rows[2] == {"step": 100, "AP": 0.5}


def test_another_process_logs_nothing(tmp_path):
    with report.Log(tmp_path, PLAN, 0, 0.0, False) as log:
        for step in range(1, 101):
            log.add({"loss": np.float64(step)})
            log.step(step, 0.1, step, 64)
    assert not list(tmp_path.iterdir())


def test_curves_show_every_term(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [
        {"step": s, "seconds": s, "lr": 1e-3, "loss": 1 / s, "pull": 0.1, "rate": 5.0, "size": 64} for s in (50, 100)
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report.curves(tmp_path / "m.jsonl", tmp_path / "a.png")
    rows[1]["pull"] = 0.4
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"step": 100, "AP": 0.2}]))
    report.curves(tmp_path / "m.jsonl", tmp_path / "b.png")
    a, b = (cv2.imread(str(tmp_path / name)) for name in ("a.png", "b.png"))
    assert a.shape == b.shape and a.std() > 5
    third = a.shape[1] // 3
    assert (a[:, :third] != b[:, :third]).any(), "the changed term is drawn"
    assert (a[:, 2 * third :] != b[:, 2 * third :]).any(), "figures take the place of the speed"


def test_sheet_draws_the_sure_people_of_several_photographs(tmp_path):
    xy = np.stack(np.meshgrid(np.linspace(20, 80, 17), [30.0, 60.0]), -1).astype(np.float32)
    poses = Poses(xy, np.ones((2, 17), np.float32), COCO17, np.array([0.9, 0.01], np.float32))
    none = Poses.empty(COCO17)
    records = [
        Record(i, str(i), (100, 50), lambda: np.zeros((50, 100, 3), np.uint8), none, np.zeros(0)) for i in range(6)
    ]
    report.sheet(lambda record: poses if record.id == 5 else none, records, tmp_path / "s.jpg")
    page = cv2.imread(str(tmp_path / "s.jpg"))
    high, wide = contact.CELL[1] + contact.BAR, contact.CELL[0]
    assert page.shape == (contact.BAR + 2 * high, 4 * wide, 3)
    tiles = page[contact.BAR :].reshape(2, high, 4, wide, 3).swapaxes(1, 2)[:, :, : contact.CELL[1]]
    lit = (tiles.max(-1) > 120).mean((2, 3)) > 0.001
    assert lit.tolist() == [[False] * 4, [False, True, False, False]]
    rows = np.flatnonzero((tiles[1, 1].max(-1) > 120).any(1))  # the picture is three times as large, in the middle
    assert abs(rows.mean() - (75 + 3 * 30)) < 12, "the person with score 0.01, at 60, is left out"
