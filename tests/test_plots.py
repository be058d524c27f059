"""What the plots show, read back from the axes, and that they are pictures."""

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from edgepose import plots
from edgepose.data._faults import FIXES, JOINT_KINDS


@pytest.fixture
def drawn(monkeypatch):
    """The figures of the plots that are drawn."""
    kept, real = [], plots.png
    monkeypatch.setattr(plots, "png", lambda fig: kept.append(fig) or real(fig))
    return kept


def test_precision_recall(drawn):
    precision = np.linspace(1, 0.1, 10)[:, None] * np.linspace(1, 0.5, 101)
    precision[:, 61:] = 0
    data = plots.precision_recall(precision, "a on b")
    assert cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape == (720, 1110, 3)
    ax = drawn[0].axes[0]
    assert len(ax.lines) == 10
    for line, curve in zip(ax.lines, precision, strict=True):
        x, y = line.get_data()
        assert x[:61] == pytest.approx(np.linspace(0, 0.6, 61)) and y[:61] == pytest.approx(curve[:61])
        assert (x[-1], y[-1]) == (pytest.approx(0.6), 0)
        assert line.get_label().endswith(f"AP {curve.mean():.3f}")
    assert drawn[0].get_suptitle() == f"a on b: AP {precision.mean():.3f}"


def report(shift=0.0):
    share = dict(zip(JOINT_KINDS, (0.3 + shift, 0.2, 0.1, 0.05, 0.25 - shift, 0.1), strict=True))
    rows = [{"joint": f"left_{name}", **share} for name in "abc"]
    sizes = [{"size": name, "people": 4, **share} for name in ("small", "large")]
    gain = {**{name: 0.01 * i + shift for i, name in enumerate(FIXES)}, "all": 0.9}
    return {"joints": share, "per_joint": rows, "per_size": sizes, "gain": gain, "ap": 0.1 + shift}


def test_faults(drawn):
    reports = [report(), report(0.1)]
    plots.faults(["one", "two"], reports, "somewhere")
    share, gain, first, second = drawn[0].axes
    for bars, key, names in ((share, "joints", JOINT_KINDS[1:]), (gain, "gain", FIXES)):
        widths = [[patch.get_width() for patch in box] for box in bars.containers]
        scale = 100 if key == "joints" else 1
        assert widths == [pytest.approx([scale * r[key][n] for n in names]) for r in reports]
        assert [t.get_text() for t in bars.get_yticklabels()] == list(names) and bars.yaxis_inverted()
    for ax, each in ((first, reports[0]), (second, reports[1])):
        heights = np.array([[patch.get_height() for patch in box] for box in ax.containers])
        assert heights.shape == (6, 5) and heights.sum(0) == pytest.approx(100)
        assert heights[:, 0] == pytest.approx([100 * each["joints"][k] for k in JOINT_KINDS])
        assert [t.get_text() for t in ax.get_xticklabels()] == [
            "left\na",
            "left\nb",
            "left\nc",
            "small\n(4)",
            "large\n(4)",
        ]
    assert "one AP 0.100, two AP 0.200 on somewhere" in drawn[0].get_suptitle()
