"""`edgepose bench`: what it times, what it says, and what it does when something cannot be timed."""

import json
import sys

import _tiny
import numpy as np
import pytest

from edgepose import bench, cli
from edgepose.candidate import MANY, Candidate, Worker, counted, opened
from edgepose.card import Card

JOINTS = ((100, 40), (120, 100), (90, 180))
PEER = """
import sys, time
for line in sys.stdin:
    time.sleep(0.03)
    print("seen", line.strip(), flush=True)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = _tiny.model(tmp_path_factory.mktemp("models") / "tiny")
    card = Card.read(folder)
    Card.from_dict({**card.to_dict(), "gmacs": 0.5, "gmacs_paper": 0.75, "scores": {"AP": 0.25}}).write(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i, size in enumerate(((320, 240), (400, 300), (240, 320))):
        _tiny.write(folder / f"{i}.png", _tiny.picture(JOINTS, size))
    return folder


def test_candidates_and_a_peer_side_by_side(model, pictures, tmp_path, capsys):
    (tmp_path / "peer.py").write_text(PEER)
    command = f"{sys.executable} {tmp_path / 'peer.py'}"
    args = ["bench", str(model), "--threads", "1,2", "--pictures", str(pictures), "--out", str(tmp_path / "out")]
    assert cli.main([*args, "--rounds", "3", "--batch", "1,2", "--peer", command]) == 0
    facts = json.loads((tmp_path / "out" / "bench.json").read_text())
    one, two, peer = facts["candidates"]
    assert [row["threads"] for row in (one, two)] == [1, 2]
    assert peer["peer"] == command
    assert 30 < peer["ms"]["p50"] < 200, "the peer sleeps 30 ms for each picture"
    assert peer["first_s"] > 0.03
    for row in (one, two):
        assert row["pictures timed"] == 9, "three pictures, three rounds; the first round is not counted"
        assert (row["params"], row["gmacs"], row["gmacs_paper"], row["people"]) == (7, 0.5, 0.75, 1.0)
        assert row["file_mb"] == pytest.approx((model / "model.onnx").stat().st_size / 1e6)
        # the card's 0.5 is of 256 x 256; a picture and its mirror image are 256 x 384 each
        assert row["gmacs per picture"] == pytest.approx(2 * 0.5 * 1.5, abs=1e-3)
        steps = row["steps_ms"]
        assert set(steps) == {"decode file", "encode", "network", "decode poses"}
        assert 0.3 * row["ms"]["p50"] < sum(steps.values()) < 1.5 * row["ms"]["p90"]
        assert row["ms"]["p50"] <= row["ms"]["p90"] <= row["ms"]["p99"]
        assert set(row["pictures per second"]) == {"1", "2"}
        assert 20 < row["peak_mb"] < 2000
    assert (tmp_path / "out" / "bench.png").read_bytes()[:4] == b"\x89PNG"
    out = capsys.readouterr().out
    assert "0.250" in out and "peer" in out
    assert [picture["width"] for picture in facts["pictures"]] == [320, 400, 240]
    assert facts["machine"]["cpus"] >= 1


def test_the_input_asked_for_is_what_the_network_sees(model, pictures, tmp_path):
    paths = sorted(pictures.glob("*.png"))
    for path in bench.cut(paths, (192, 384), tmp_path):
        predictor = opened(Candidate(str(model), "onnx", 1, plain=True, short=192))
        shapes, engine = [], predictor.engine
        predictor.engine = lambda batch, engine=engine, shapes=shapes: (shapes.append(batch.shape), engine(batch))[1]
        predictor(path)
        assert shapes == [(1, 3, 192, 384)]


def test_a_model_that_looks_at_people_counts_finding_them(photos):
    candidate = Candidate("efficientlite-0-person", "onnx", 1)
    predictor = opened(candidate)
    done = counted(predictor)
    predictor(photos / "s2d_100.jpg")
    assert done[0] == 4, "two scales of the whole picture, a glance and a look"
    whole = 0.73 * 2 * 1.5 * (1 + 0.25)  # 256 x 384 with its mirror image, and both at half the size
    assert whole < done[1] < whole + 0.128 * 60
    assert predictor.spent["find people"] < sum(predictor.spent[s] for s in ("encode", "network", "decode poses"))
    alone = opened(Candidate("efficientlite-0-person", "onnx", 1, plain=True, alone=True))
    done = counted(alone)
    assert len(alone(photos / "s2d_100.jpg")) == 1
    assert done == [1, pytest.approx(0.128)]


def test_workers_answer_or_say_why_not(model, pictures):
    path = str(pictures / "0.png")
    with Worker.of(Candidate(str(model), "onnx", 1)) as worker:
        answer = json.loads(worker.ask(path)[0])
        assert answer["people"] == 1 and answer["network"] > 0
        speed = json.loads(worker.ask(MANY + json.dumps({"pictures": [path] * 6, "batch": 2}))[0])
        assert speed["pictures per second"] > 0
        with pytest.raises(ValueError, match="cannot read"):
            worker.ask("gone.png")
    assert worker.process.poll() == 2
    with Worker([sys.executable, "-c", "print('one', flush=True)"], "short") as worker:
        assert worker.ask("a")[0] == "one"
        with pytest.raises(ValueError, match="short: ended without a word"):
            worker.ask("b")


def test_what_fails_is_said_and_the_rest_is_timed(model, pictures, capsys):
    broken = f"{sys.executable} -c 'raise SystemExit(\"no licence\")'"
    args = ["bench", str(model), "--pictures", str(pictures), "--rounds", "1", "--peer", broken]
    assert cli.main([*args, "--peer", "no-such-command"]) == 1
    said = capsys.readouterr()
    assert "no licence" in said.err and "cannot start no-such-command" in said.err
    assert len(said.err.splitlines()) == 2
    assert "tiny" in said.out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--runtime", "onx"], "no runtime called 'onx'. Did you mean 'onnx'?"),
        (["--threads", "0"], "--threads is numbers with commas, as in 1,2; got '0'"),
        (["--input", "250x256"], "--input is height x width in multiples of 64"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--pictures", "nowhere"], "no such file: nowhere"),
        (["--runtime", "pytorch"], "has no weights for 'pytorch'"),
        (["--table", "nowhere/table.json"], "cannot write the table to nowhere"),
        (["--table", "t.json", "--runtime", "ncnn2"], "blocks are timed alone in onnx and pytorch, not in 'ncnn2'"),
    ],
)
def test_wrong_arguments_are_one_line(model, args, says, capsys, monkeypatch, tmp_path):
    if "--table" in args:
        pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", str(model), *args]) == 2
    said = capsys.readouterr()
    assert says in said.err and len(said.err.splitlines()) == 1 and said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_percentiles_are_those_of_the_pictures():
    one = bench.Timed({"peer": "x"}, lambda: pytest.fail("not started"), total=list(np.arange(1.0, 102.0)))
    assert bench.summary(one)["ms"] == {"p50": 51.0, "p90": 91.0, "p99": 100.0}
