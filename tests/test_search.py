"""`edgepose search`: from photographs to a model folder, killed and resumed, and fine-tuned by the command it names."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from test_train import PLAN, one_thread, photographs  # noqa: E402, F401

from edgepose import cli, load, recipes, runs, weights  # noqa: E402
from edgepose.card import Card  # noqa: E402
from edgepose.codecs.bottomup import BottomUp  # noqa: E402
from edgepose.data import Record  # noqa: E402
from edgepose.poses import Poses  # noqa: E402
from edgepose.recipes import Recipe  # noqa: E402
from edgepose.search import run as search  # noqa: E402
from edgepose.search import score  # noqa: E402
from edgepose.search.plan import Search  # noqa: E402
from edgepose.skeleton import COCO17  # noqa: E402

SPACE = {
    "size": (64, 128),
    "stem": (8, 16),
    "channels.0": (8, 16),
    "channels.3": (40, 80),
    "deconv_channels.1": (16, 24),
}
TINY = replace(
    PLAN, steps=2, resolutions=(), arch={"blocks": (1, 1, 1, 1)}, validation=(),
    augment=replace(PLAN.augment, mosaic=0),
    search=Search(SPACE, sandwich=True, distil=True, hold=2, calibrate=1, score="peaks", population=6, generations=2),
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Model folders without ONNX, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "save", partial(weights.save, runtimes=("pytorch",)))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def supernet(root, tmp_path_factory, quick):
    """A model folder of a supernet after two steps."""
    out = tmp_path_factory.mktemp("super") / "run"
    runs.run("litepose-xs", root, out, TINY, workers=0)
    return out / "model"


def test_a_search_ends_with_a_model_that_predicts_and_can_be_trained_further(root, supernet, tmp_path, capsys):
    out = tmp_path / "out"
    assert search.run("tiny", root, out, ("0.05gmacs", "2MB"), TINY, supernet=supernet, workers=0) == 0
    said = capsys.readouterr().out
    assert "32 candidates" in said and f"--init {out}/model" in said
    found = json.loads((out / "search.json").read_text())
    assert found["budget"] == ["0.05gmacs", "2MB"] and found["candidates"] == 32
    rows = found["front"]
    assert all(a["gmacs"] < b["gmacs"] and a["score"] < b["score"] for a, b in pairwise(rows))
    lines = [json.loads(line) for line in (out / "scores.0.jsonl").read_text().splitlines()]
    assert len(lines) == len({tuple(line["values"]) for line in lines}) == found["scored"] > 6
    winner = found["winner"]
    assert winner["score"] == max(line["score"] for line in lines) and winner == rows[-1]
    assert winner["gmacs"] <= 0.05 and winner["params"] * 4 <= 2e6
    assert (out / "front.png").stat().st_size > 10_000
    card = Card.read(out / "model")
    assert (card.model, card.params, card.gmacs) == ("litepose", winner["params"], winner["gmacs"])
    assert card.codec.input_size == winner["choices"]["size"] and card.arch["stem"] == winner["choices"]["stem"]
    assert "inherited" in card.notes and f"peaks {winner['score']:.4f}" in card.notes
    own, big = (load(folder, runtime="pytorch") for folder in (out / "model", supernet))
    assert isinstance(own(np.zeros((96, 96, 3), np.uint8)), Poses) and big.card.params > card.params
    ready = score.judge(supernet, out / "recipe.json", root)
    candidate = ready.space.candidate(list(winner["choices"].values()))
    assert ready(candidate) == winner["score"], "the score is that of the network that was saved"

    fine = replace(
        TINY, search=Search(), resolutions=((0.0, 128),), arch={}
    )  # another recipe: the folder has the sizes
    assert runs.run("litepose-xs-part", root, tmp_path / "fine", fine, init=out / "model", workers=0) == 0
    tuned = Card.read(tmp_path / "fine" / "model")
    assert (tuned.arch, tuned.codec.input_size, tuned.params) == (card.arch, card.codec.input_size, card.params)
    assert tuned.gmacs == card.gmacs
    plan = Recipe.read(tmp_path / "fine" / "recipe.json")
    assert plan.resolutions == () and plan.arch["stem"] == card.arch["stem"], "a resumed run has the sizes too"
    rows = [json.loads(line) for line in (tmp_path / "fine" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["size"] == card.codec.input_size


def test_a_supernet_that_was_broken_off_goes_on_with_the_sizes_it_began_with(root, supernet, tmp_path, monkeypatch):
    """The sizes of `--init FOLDER` are in the run's own recipe, not in that of the search."""
    real, out = runs.train.fit, tmp_path / "run"

    def stops(*args, **kwargs):
        real(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.train, "fit", stops)
    plan = replace(TINY, arch={}, steps=1)  # six to ten blocks a stage; the folder has one
    with pytest.raises(KeyboardInterrupt):
        search.trained("tiny", root, out, plan, supernet, None, 1)
    monkeypatch.setattr(runs.train, "fit", real)
    assert search.trained("tiny", root, out, plan, supernet, None, 1) == out / "model"
    assert Card.read(out / "model").arch["blocks"] == [1, 1, 1, 1]


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_search import TINY, replace, search, weights, partial
if __name__ == "__main__":
    weights.save = partial(weights.save, runtimes=("pytorch",))
    root, out, supernet = map(Path, sys.argv[1:])
    search.run("tiny", root, out, ("0.2gmacs",), TINY, supernet=supernet, workers=2, resume=out.exists())
"""


def test_a_killed_search_ends_as_an_unbroken_one(root, supernet, tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=os.path.dirname(os.path.abspath(__file__))))
    out, whole = tmp_path / "out", tmp_path / "whole"
    search.run("tiny", root, whole, ("0.2gmacs",), TINY, supernet=supernet, workers=0)
    command = [sys.executable, str(script), str(root), str(out), str(supernet)]
    child = subprocess.Popen(command, start_new_session=True)
    patience = time.monotonic() + 200
    while lines(out) < 4 and time.monotonic() < patience and child.poll() is None:
        time.sleep(0.005)
    assert child.poll() is None, "it was killed under way"
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = lines(out)
    assert 4 <= before < lines(whole)
    patience = time.monotonic() + 30
    while alive(child.pid) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not alive(child.pid), "workers end with the process that started them"
    with open(out / "scores.0.jsonl", "a") as file:
        file.write('{"key": "cut o')
    search.run("tiny", root, out, ("0.2gmacs",), TINY, supernet=supernet, workers=0, resume=True)
    assert (out / "search.json").read_text() == (whole / "search.json").read_text()
    one, other = ((folder / "model" / "model.safetensors").read_bytes() for folder in (out, whole))
    assert one == other
    scored = lines(out)
    search.run("tiny", root, out, ("0.03gmacs",), TINY, supernet=supernet, workers=0, resume=True)
    assert lines(out) < scored + 18, "another budget uses the scores that are there"


TOGETHER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_search import TINY, search, weights, partial
if __name__ == "__main__":
    weights.save = partial(weights.save, runtimes=("pytorch",))
    root, out, supernet = map(Path, sys.argv[1:])
    search.run("tiny", root, out, ("0.2gmacs",), TINY, supernet=supernet, workers=0)
"""


@pytest.mark.slow
def test_two_processes_that_torchrun_starts_search_as_one(root, supernet, tmp_path):
    script, out, whole = tmp_path / "child.py", tmp_path / "out", tmp_path / "whole"
    script.write_text(TOGETHER.format(tests=os.path.dirname(os.path.abspath(__file__))))
    search.run("tiny", root, whole, ("0.2gmacs",), TINY, supernet=supernet, workers=0)
    port = str(29500 + os.getpid() % 1000)
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port, str(script)]
    subprocess.run([*start, str(root), str(out), str(supernet)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (out / "search.json").read_text() == (whole / "search.json").read_text()
    counts = [len((out / f"scores.{place}.jsonl").read_text().splitlines()) for place in (0, 1)]
    assert min(counts) > 0 and sum(counts) == lines(whole), "each has scored a share"


def lines(out: Path) -> int:
    file = out / "scores.0.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def alive(group: int) -> list[str]:
    """Processes of a session that still run."""
    found = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(group)], capture_output=True, text=True).stdout
    return [row for row in found.splitlines() if "Z" not in row]


def test_peaks_are_judged_where_they_are(tmp_path):
    """A network that knows the answer scores 1; one that is off by the joint's own tolerance, exp(-1/2)."""
    xy = np.random.default_rng(0).uniform(40, 200, (2, 17, 2)).astype(np.float32)
    truth = Poses(xy, np.ones((2, 17), np.float32), COCO17)
    record = Record(
        1, "a", (256, 256), lambda: np.zeros((256, 256, 3), np.uint8), truth, np.array([2e4, 2e4], np.float32)
    )
    codec = BottomUp(COCO17, 256)
    inside = codec.frame((256, 256))

    def network(shift):
        moved = xy + shift * 2 * np.asarray(COCO17.sigmas)[None, :, None] * (2e4**0.5, 0)
        targets = replace(codec, sigma=3.0).targets(Poses(inside(moved), truth.scores, COCO17)[:1], (256, 256))
        heat = [targets["heatmaps_0"][None], targets["heatmaps_1"][None]]
        return lambda batch: [np.concatenate([heat[0], 0 * heat[0]], 1), heat[1]]

    one = [replace(record, truth=truth[:1], areas=record.areas[:1])]
    assert score.peaks(codec, network(0.0), one) > 0.93
    assert abs(score.peaks(codec, network(1.0), one) - np.exp(-0.5)) < 0.12
    assert (
        score.peaks(
            codec, lambda b: [np.zeros((1, 34, 64, 64), np.float32), np.zeros((1, 17, 128, 128), np.float32)], one
        )
        < 0.4
    )
    blank = replace(record, truth=truth[:0], areas=record.areas[:0])
    with pytest.raises(ValueError, match="none of the photographs"):
        score.peaks(codec, network(0.0), [blank])


def test_photographs_that_judge_are_not_learnt_from(root):
    from edgepose import train

    photographs = train.records(TINY.photographs, root)
    kept, held = train.parted(TINY, photographs)
    assert len(kept) == len(held) == 2 and not {r.id for r in kept} & {r.id for r in held}
    shown = train.samples(TINY, BottomUp(), root, photographs)[1]
    assert {r.id for r in shown.photographs} == {r.id for r in kept}
    with pytest.raises(ValueError, match=r"search\.hold = 3 is more than half of the 4"):
        train.parted(replace(TINY, search=replace(TINY.search, hold=3)), photographs)


def test_misuse_is_one_line(root, tmp_path, capsys, monkeypatch):
    words = ["search", "litepose-xs-supernet", "--root", str(root), "--out", str(tmp_path / "o")]
    for more, message in (
        (["--budget", "5s"], "a budget is like 1.2gmacs"),
        (["--budget", "20ms@gone.json"], "cannot read the latency table gone.json"),
    ):
        assert cli.main([*words, *more]) == 2
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1
    assert cli.main(["search", "litepose-xs", *words[2:], "--budget", "1gmacs"]) == 2
    assert "litepose-xs has no search space" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="train it first"):
        search.run("tiny", root, tmp_path / "o", ("1gmacs",), TINY)


def test_a_budget_below_the_smallest_network(root, supernet, tmp_path):
    with pytest.raises(ValueError, match=r"budget 0\.001gmacs: the smallest network of the space costs 0\.0"):
        search.run("tiny", root, tmp_path / "o", ("0.001gmacs",), TINY, supernet=supernet, workers=0)
    with pytest.raises(ValueError, match="holds an earlier search; go on with --resume"):
        search.run("tiny", root, tmp_path / "o", ("1gmacs",), TINY, supernet=supernet, workers=0)


def test_settings_of_the_search_are_flags():
    words = ["search", "litepose-xs-supernet", "--root", "r", "--out", "o", "--budget", "1gmacs", "search.space.stem=8"]
    function, flags = runs.command([*words, "search.space.channels.1=[16, 32]", "search.population=9"], search.run)
    plan = function.keywords["plan"]
    assert plan.search.space["stem"] == (8,) and plan.search.space["channels.1"] == (16, 32)
    assert flags[-2:] == ["--search.population", "9"]
    assert recipes.find("litepose-supernet-coco").search.space["size"] == (256, 320, 384, 448, 512)
    for wrong in (
        {"score": "loss"},
        {"distil": True},
        {"subnets": 0},
        {"parents": 0.0},
        {"crossover": 0.9},
        {"hold": 0},
    ):
        with pytest.raises(ValueError, match=f"a search cannot have {next(iter(wrong))}"):
            Search(**wrong)
    with pytest.raises(ValueError, match="a recipe cannot have compile"):
        replace(TINY, compile=True)
