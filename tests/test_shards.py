"""Large jobs: every picture once, whatever dies on the way."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import _tiny
import pytest

import edgepose
from edgepose import cli, shards
from edgepose.results import plain
from edgepose.shards import Job, Worker, answers, begin, name
from edgepose.sources import find, read_image

JOINTS = ((100, 40), (120, 100), (90, 180))


@pytest.fixture
def paths(tmp_path):
    """Seven pictures, of which the third cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(7):
        _tiny.write(folder / f"{i}.png", _tiny.picture([(x + 5 * i, y) for x, y in JOINTS]))
    (folder / "2.png").write_bytes(b"no")
    return find(folder)


@pytest.fixture
def job(tmp_path):
    return Job(str(_tiny.model(tmp_path / "tiny")), None, "cpu", False, None, None, 0.15)


def rows(job, paths, out, size):
    """The shards as workers get them."""
    facts = {"out": str(out), "job": json.dumps(vars(job))}
    return [
        {"shard": i, "paths": json.dumps([str(p) for p in paths[i * size : (i + 1) * size]]), **facts}
        for i in begin(job, paths, out, size)
    ]


def expected(job, paths):
    """What one-by-one prediction finds."""
    predictor = edgepose.load(job.model, threads=1, flip=job.flip)
    out = []
    for path in paths:
        try:
            image = read_image(path)
        except ValueError as error:
            out.append({"image": str(path), "error": str(error)})
            continue
        poses = predictor(image)
        shown = poses[poses.person_scores >= job.least]
        out.append(json.loads(json.dumps(plain(shown, path, image, predictor.card.model))))
    return out


def test_shards_hold_every_picture_once_in_order(job, paths, tmp_path):
    worker = Worker()
    todo = rows(job, paths, tmp_path / "out", 3)
    assert [row["shard"] for row in todo] == [0, 1, 2]
    for row in reversed(todo):
        assert worker(row) == {"shard": row["shard"]}
    assert list(answers(tmp_path / "out")) == expected(job, paths)
    assert shards.counts(tmp_path / "out" / name(0)) == {"pictures": 3, "people": 2, "errors": 1}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["job.json", *map(name, range(3))]


def test_a_stopped_job_goes_on_and_done_shards_are_left_alone(job, paths, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first, second, _ = rows(job, paths, out, 3)
    Worker()(first)
    before = (out / name(0)).stat().st_mtime_ns

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "plain", dies)
    with pytest.raises(KeyboardInterrupt):
        Worker()(second)
    monkeypatch.undo()
    assert not (out / name(1)).exists(), "a shard is whole or absent"
    with pytest.raises(ValueError, match=f"not finished: {name(1)} is missing"):
        list(answers(out))
    again = rows(job, paths, out, 3)
    assert [row["shard"] for row in again] == [1, 2]
    for row in [*again, first]:  # the first once more, as after a worker that died before it could say so
        Worker()(row)
    assert (out / name(0)).stat().st_mtime_ns == before
    assert list(answers(out)) == expected(job, paths)


def test_another_job_or_other_files_are_not_written_into(job, paths, tmp_path):
    begin(job, paths, tmp_path / "out", 3)
    for wrong in (lambda: begin(job, paths[1:], tmp_path / "out", 3), lambda: begin(job, paths, tmp_path / "out", 2)):
        with pytest.raises(ValueError, match="holds another job"):
            wrong()
    with pytest.raises(ValueError, match="is not empty and holds no job"):
        begin(job, paths, tmp_path / "photos", 3)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="is not empty and holds no job"):
        begin(job, paths, tmp_path / "file", 3)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "--ray needs --out"),
        (["--out", "o", "--results", "r.json"], "takes neither --results nor boxes"),
        (["--out", "o", "--detector", "boxes.json"], "takes neither --results nor boxes"),
    ],
)
def test_what_does_not_go_with_ray(job, paths, args, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", str(paths[0]), "--ray", "--model", job.model, *args]) == 2
    said = capsys.readouterr()
    assert says in said.err and len(said.err.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def workers() -> list[int]:
    """Processes of this one's Ray that run our class."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes()
            parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            grandparent = Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[1]
        except (OSError, IndexError):
            continue
        if b"ray::MapWorker" in line and int(grandparent) == os.getpid():
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the workers in /proc")
def test_every_picture_once_after_a_worker_is_killed(tmp_path, photos, capsys):
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    folder, out, killed = tmp_path / "photos", tmp_path / "out", []
    folder.mkdir()
    source = (photos / "s2d_100.jpg").read_bytes()
    for i in range(60):
        (folder / f"{i}.jpg").write_bytes(source)
    job, paths = Job("efficientlite-0", "onnx", "cpu", None, None, None, 0.15), find(folder)

    def kill():
        while not killed and len(list(out.glob("shard-*"))) < 20:
            if list(out.glob("shard-*")) and (alive := workers()):
                os.kill(alive[0], signal.SIGKILL)
                killed.append((alive[0], len(list(out.glob("shard-*")))))
            time.sleep(0.01)

    assassin = threading.Thread(target=kill)
    assassin.start()
    try:
        total = shards.run(job, paths, out, 2, 2)
    finally:
        assassin.join()
        ray.shutdown()
    ((pid, done),) = killed
    assert 1 <= done < 25 and not Path(f"/proc/{pid}").exists()
    found = list(answers(out))
    assert [line["image"] for line in found] == [str(path) for path in paths], "each picture once, in order"
    assert total == {"pictures": 60, "people": sum(len(line["people"]) for line in found), "errors": 0}
    (first,) = expected(job, paths[:1])
    assert all(line["people"] == first["people"] for line in found)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert shards.run(job, paths, out, 2, 2) == total, "nothing is left to do"
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    assert "30 of 30 shards are done already" in capsys.readouterr().out


def test_without_ray_one_line_says_so(job, paths, tmp_path, capsys):
    try:
        import ray  # noqa: F401
    except ImportError:
        assert cli.main(["predict", str(paths[0]), "--ray", "--model", job.model, "--out", str(tmp_path / "o")]) == 2
        assert 'pip install "edgepose[ray]"' in capsys.readouterr().err
        assert not (tmp_path / "o").exists()
    else:
        pytest.skip("ray is installed")
