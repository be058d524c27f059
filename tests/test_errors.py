"""Error analysis on photographs whose faults are known, and the command."""

import itertools
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("faster_coco_eval")

from _scene import scene

from edgepose import cli
from edgepose.data import Record
from edgepose.data._faults import FIXES, JOINT_KINDS, best_scores, classify, false_positives, fix
from edgepose.data._match import match_all
from edgepose.data._oks import average_precision
from edgepose.errors import analyse, photograph_similarity
from edgepose.poses import Poses
from edgepose.skeleton import COCO17

GOOD, JITTER, INVERSION, SWAP, MISS, LOST = range(6)
MIRROR = np.array(COCO17.mirror)
SIDED = np.flatnonzero(np.arange(17) != MIRROR)


def people(number=2, seed=0):
    """A record of people who stand well apart, their joints well apart too (four columns, 60 px), scale 100 px."""
    places = np.stack([np.arange(17) % 4, np.arange(17) // 4], 1) * 60.0
    xy = (places + np.arange(number)[:, None, None] * [700, 0] + 20).astype(np.float32)
    boxes = np.concatenate([xy.min(1), xy.max(1)], 1)
    blank = lambda: np.zeros((480, 2200, 3), np.uint8)  # noqa: E731
    areas = np.full(number, 1e4, np.float32)
    return Record(1, "1.jpg", (2200, 480), blank, Poses(xy, np.ones((number, 17)), COCO17, boxes=boxes), areas)


def facing():
    """One person as above, whose left and right joints are so near each other that each has similarity 0.2 there."""
    record = people(1)
    xy = np.stack([np.full(17, 300.0), 20 + 60.0 * np.array([0, *(1 + np.arange(16) // 2)])], 1)
    apart = np.array(COCO17.sigmas) * 2 * 100 * np.sqrt(-2 * np.log(0.2))
    xy[SIDED, 0] += np.where(SIDED % 2, 0.5, -0.5) * apart[SIDED]
    return replace(record, truth=Poses(xy[None], np.ones((1, 17)), COCO17, boxes=record.truth.boxes))


def rows(poses, scores=None, image_id=1):
    scores = scores if scores is not None else np.linspace(0.9, 0.5, len(poses))
    flat = [np.pad(p, ((0, 0), (0, 1))).ravel().tolist() for p in poses]
    return [{"image_id": image_id, "keypoints": k, "score": float(s)} for k, s in zip(flat, scores, strict=True)]


def kinds(record, results):
    return classify(record, match_all([record], results)[0])


def fixed(record, results, *which):
    found = match_all([record], results)
    return average_precision([record], fix([record], found, [classify(record, found[0])], which))["AP"]


def test_left_and_right_exchanged():
    """Exactly the joints that have a side are inverted; put right, AP is 1."""
    record = facing()
    answer = rows(record.truth.xy[:, MIRROR].astype(float))
    found = kinds(record, answer)
    assert found[0, 0] == GOOD and (found[0, SIDED] == INVERSION).all()
    assert average_precision([record], answer)["AP"] == 0
    assert fixed(record, answer, "inversion") == 1.0
    assert [fixed(record, answer, k) for k in ("jitter", "swap", "miss", "score", "background", "double")] == [0.0] * 6


def test_some_joints_exchanged_within_and_between_people():
    record = people()
    left, right, knee = (COCO17.index[j] for j in ("left_wrist", "right_wrist", "left_knee"))
    truth = record.truth.xy.astype(float)
    guess = truth.copy()
    guess[0, [left, right]] = truth[0, [right, left]]
    guess[[0, 1], knee] = truth[[1, 0], knee]
    guess[1, left] = truth[0, right]  # the other side of the other person
    expected = np.full((2, 17), GOOD)
    expected[0, [left, right]] = INVERSION
    expected[:, knee] = SWAP
    expected[1, left] = SWAP
    assert (kinds(record, rows(guess)) == expected).all()
    assert fixed(record, rows(guess), "inversion", "swap") == 1.0
    assert max(fixed(record, rows(guess), k) for k in ("inversion", "swap", "miss", "jitter", "score")) < 1


@pytest.mark.parametrize(("near", "kind"), [(0.86, GOOD), (0.84, JITTER), (0.51, JITTER), (0.49, MISS), (0.01, MISS)])
def test_limits_of_good_jitter_and_miss(near, kind):
    record = people(1)
    j = COCO17.index["right_elbow"]
    guess = record.truth.xy.astype(float)
    guess[0, j, 0] += 100 * 2 * COCO17.sigmas[j] * np.sqrt(-2 * np.log(near))
    expected = np.full((1, 17), GOOD)
    expected[0, j] = kind
    assert (kinds(record, rows(guess)) == expected).all()
    assert fixed(record, rows(guess), JOINT_KINDS[kind]) == 1.0


def test_labels_that_are_not_there():
    """No label: no kind; and no joint counts as inverted or swapped onto a joint that is not labelled."""
    record = people()
    seen = np.ones((2, 17))
    left, right = COCO17.index["left_wrist"], COCO17.index["right_wrist"]
    seen[0, right] = 0
    record = replace(record, truth=Poses(record.truth.xy, seen, COCO17, boxes=record.truth.boxes))
    guess = record.truth.xy.astype(float)
    guess[0, left] = guess[0, right]
    guess[1, right] = guess[0, right]
    found = kinds(record, rows(guess))
    assert found[0, right] == -1 and found[0, left] == MISS and found[1, right] == MISS
    report = analyse([record], rows(guess))
    assert report["labels"] == 33 and report["joints"]["miss"] == pytest.approx(2 / 33)


def test_a_person_who_is_not_found():
    record = people(3)
    answer = rows(record.truth.xy[[0, 2]])
    found = kinds(record, answer)
    assert (found[1] == LOST).all() and (found[[0, 2]] == GOOD).all()
    assert average_precision([record], answer)["AP"] < 0.7 and fixed(record, answer, "not found") == 1.0


def test_detections_of_nobody():
    """A stranger with the highest score, a worse double of a person, and a better double of another."""
    record = people(2)
    truth = record.truth.xy.astype(float)
    worse = truth + [9, 0]
    poses = [truth[0] + [0, 3000], truth[0], worse[0], worse[1], truth[1]]
    answer = rows(poses, [0.9, 0.8, 0.7, 0.6, 0.5])
    false = false_positives(match_all([record], answer)[0])
    assert {k: np.flatnonzero(v).tolist() for k, v in false.items()} == {
        "background": [0],
        "double": [2],
        "outranked": [4],
    }
    before = average_precision([record], answer)["AP"]
    assert before < 0.5 and fixed(record, answer, "score") == 1.0
    assert fixed(record, answer, "background") > before + 0.1
    assert fixed(record, answer, "double") > before


def test_a_detection_in_a_crowd_is_no_fault():
    crowd = {"bbox": [1500.0, 20.0, 600.0, 400.0], "area": 1e5, "iscrowd": 1}
    record = replace(people(1), others=(crowd,))
    answer = rows([record.truth.xy[0], record.truth.xy[0] + [1600, 0]])
    report = analyse([record], answer)
    assert report["excused"] == 1 and report["background"] == 0 and report["ap"] == 1.0
    assert analyse([replace(record, others=())], answer)["background"] == 1


@pytest.mark.parametrize("seed", range(2))
def test_no_order_of_scores_beats_the_best_scores(seed):
    """Over all 120 orders of five detections of three people."""
    rng = np.random.default_rng(seed)
    record = people(3)
    poses = [record.truth.xy[p] + rng.normal(0, s, (17, 2)) for p, s in ((0, 6), (0, 9), (1, 7), (1, 14), (2, 10))]
    best = max(
        average_precision([record], rows(poses, np.array(order) / 9 + 0.1))["AP"]
        for order in itertools.permutations(range(5))
    )
    assert fixed(record, rows(poses), "score") == pytest.approx(best, abs=1e-12)
    assert best > 0.3 and (best_scores(record, match_all([record], rows(poses))[0]) > 0).sum() == 3


def test_best_scores_where_more_than_twenty_are_found():
    """Scores above 1 of detections that do not count must not come before the new scores."""
    record = people(21)
    strangers = record.truth.xy[:2].astype(float) + [0, 3000]
    assert fixed(record, rows(strangers, [40, 30]), "not found", "score") == pytest.approx(91 / 101)  # 19 of 21


@pytest.mark.parametrize("seed", range(3))
def test_on_random_photographs(seed):
    records, results = scene(seed)
    records = [r for r in records if len(r.truth) <= 20]
    results = [row for row in results if row["image_id"] in {r.id for r in records}]
    report = analyse(records, results)
    assert report["ap"] == average_precision(records, results)["AP"]
    assert sum(report["joints"].values()) == pytest.approx(1)
    assert report["ap_with"]["all"] > 0.9 and report["ap_with"]["all"] >= max(report["ap_with"][k] for k in FIXES)
    assert report["ap_with"]["not found"] > report["ap"] and report["ap_with"]["score"] >= report["ap"]
    found = sum(report[k] for k in ("people_found", "double", "outranked", "background", "excused"))
    assert found == report["detections"]
    weights = [row["labels"] for row in report["per_joint"]]
    for kind in JOINT_KINDS:
        pooled = np.average([row[kind] for row in report["per_joint"]], weights=weights)
        assert pooled == pytest.approx(report["joints"][kind])
    assert sum(row["people"] for row in report["per_size"]) == report["people"]
    assert min(row["people"] for row in report["per_size"]) > 0


def test_similarity_of_a_photograph():
    record = people(2)
    moved = record.truth.xy[0] + [0, 100 * 2 * 0.026 * np.sqrt(-2 * np.log(0.5))]  # the nose at 0.5, others above
    found = match_all([record], rows([moved]))[0]
    assert photograph_similarity(record, found) == pytest.approx(found.oks[0, 0] / 2)
    empty = replace(record, truth=Poses.empty(COCO17), areas=np.zeros(0, np.float32))
    assert photograph_similarity(empty, match_all([empty], rows([moved]))[0]) == -1


def photographs(root, count=3):
    """A COCO folder with `count` photographs of one person each; the truth."""
    (root / "coco_small").mkdir()
    record, images, people_ = facing(), [], []
    for i in range(1, count + 1):
        cv2.imwrite(str(root / "coco_small" / f"{i}.png"), np.full((480, 640, 3), 30 * i, np.uint8))
        images.append({"id": i, "file_name": f"{i}.png", "width": 640, "height": 480})
        table = np.concatenate([record.truth.xy[0], np.full((17, 1), 2)], 1).ravel().tolist()
        person = {"image_id": i, "keypoints": table, "num_keypoints": 17, "bbox": [200, 20, 200, 450], "area": 1e4}
        people_.append({"id": i, "iscrowd": 0, **person})
    (root / "coco_small.json").write_text(json.dumps({"images": images, "annotations": people_}))
    return record.truth.xy[0].astype(float)


def test_the_command_compares_two_results(tmp_path, capsys):
    truth = photographs(tmp_path)
    good = [row for i in (1, 2, 3) for row in rows([truth], image_id=i)]
    bad = [row for i in (1, 3) for row in rows([truth], image_id=i)] + rows([truth[MIRROR]], image_id=2)
    for name, answer in (("good.json", good), ("bad.json", bad)):
        (tmp_path / name).write_text(json.dumps(answer))
    words = ["errors", "--root", str(tmp_path), "--split", "small", "--out", str(tmp_path / "out" / "x")]
    words += ["--results", str(tmp_path / "good.json"), "--results-b", str(tmp_path / "bad.json")]
    assert cli.main(words) == 0
    assert "2nd" not in capsys.readouterr().out
    out = tmp_path / "out" / "x"
    reports = list(json.loads((out / "errors.json").read_text()).values())
    assert [r["ap"] for r in reports] == [1.0, pytest.approx(reports[1]["ap"])] and reports[1]["ap"] < 0.7
    assert reports[1]["joints"]["inversion"] == pytest.approx(16 / 51)
    assert reports[1]["ap_with"]["inversion"] == 1.0
    table = [line.split(",") for line in (out / "photographs.csv").read_text().splitlines()]
    assert [line[-1] for line in table] == ["change", "0.0", str(table[2][-1]), "0.0"] and float(table[2][-1]) < -0.5
    for name, count in (("worst.jpg", 2), ("changed.jpg", 3)):
        assert cv2.imread(str(out / name)).shape[1] > count * 330
    drawn = cv2.imread(str(out / "changed.jpg"))  # the photograph that changed most, grey 60, comes first
    assert np.abs(drawn[40:60, 20:60].astype(float) - 60).mean() < 12
    assert cv2.imread(str(out / "errors.png")).shape[0] > 900


def test_the_same_file_twice(tmp_path):
    """Both reports are kept, under different names, and nothing has changed."""
    photographs(tmp_path, 1)
    (tmp_path / "r.json").write_text("[]")
    words = ["errors", "--root", str(tmp_path), "--split", "small", "--out", str(tmp_path / "out")]
    assert (
        cli.main([*words, *(w for flag in ("--results", "--results-b") for w in (flag, str(tmp_path / "r.json")))]) == 0
    )
    first, second = json.loads((tmp_path / "out" / "errors.json").read_text()).items()
    assert first[0] != second[0] and first[1] == second[1]
    assert (tmp_path / "out" / "photographs.csv").read_text().splitlines()[1] == "1,1.png,1,0.0,0.0,0.0"


def test_complaints_of_the_command(tmp_path, capsys):
    truth = photographs(tmp_path)
    words = ["errors", "--root", str(tmp_path), "--split", "small", "--out", str(tmp_path / "out"), "--results"]
    for content, complaint in (
        ("{", "not a results file"),
        ('{"a": 1}', "not a list"),
        (json.dumps(rows([truth], image_id=9)), "image_id 9"),
        (json.dumps(rows([truth[:14]])), "42 numbers"),
    ):
        (tmp_path / "r.json").write_text(content)
        assert cli.main([*words, str(tmp_path / "r.json")]) == 2
        said = capsys.readouterr().err
        assert complaint in said and said.count("\n") == 1
    assert cli.main([*words, str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
    (tmp_path / "r.json").write_text("[]")
    assert cli.main([*words, str(tmp_path / "r.json"), "--photographs", "0"]) == 2
    assert cli.main([*words, str(tmp_path / "r.json")]) == 0  # nobody found is an answer too
    report = next(iter(json.loads((tmp_path / "out" / "errors.json").read_text()).values()))
    assert report["ap"] == 0 and report["ap_with"]["not found"] == 1.0 and report["joints"]["not found"] == 1.0
