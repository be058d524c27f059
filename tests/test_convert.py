"""Labels between COCO, YOLO, CVAT and Label Studio: what goes round comes back, and what each tool insists on."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepose import cli, folder
from edgepose.data import custom
from edgepose.data import yolo as yolo_data
from edgepose.formats import Labels, Person, Picture, coco, cvat, labelstudio, writable, yolo
from edgepose.skeleton import CROWDPOSE14

OTHERS = {"yolo": yolo, "cvat": cvat, "labelstudio": labelstudio}
SIZE = (640, 427)


def cents(low, high):
    """Pixels with two decimals, as CVAT writes them."""
    return st.integers(low * 100, high * 100).map(lambda n: n / 100)


@st.composite
def people(draw, joints):
    rows = []
    for _ in range(joints):
        v = draw(st.sampled_from((0, 1, 2)))
        rows.append((draw(cents(-30, 700)), draw(cents(-30, 460)), v) if v else (0.0, 0.0, 0))
    box = (draw(cents(-20, 600)), draw(cents(-20, 400)), draw(cents(1, 300)), draw(cents(1, 300)))
    crowd = draw(st.integers(0, 5)) == 0
    outline = {"counts": [5, 7, 3], "size": [3, 5]} if crowd else [[1.5, 2.25, 7.0, 2.0, 4.0, 9.0]]
    rest = {"iscrowd": int(crowd), "area": draw(cents(0, 900)), "segmentation": outline, "category_id": 1}
    return Person(tuple(rows), box, None, rest)


@st.composite
def labels(draw):
    word = st.text("abcxyz <&\"'éñ_0", min_size=1, max_size=6).map(str.strip).filter(bool)
    names = tuple(draw(st.lists(word, min_size=1, max_size=5, unique=True)))
    rows = st.integers(0, len(names) - 1)
    limbs = (
        tuple(draw(st.lists(st.tuples(rows, rows).filter(lambda p: p[0] != p[1]), max_size=4)))
        if len(names) > 1
        else ()
    )
    pictures, number = [], 100
    for i in range(draw(st.integers(1, 3))):
        found = []
        for person in draw(st.lists(people(len(names)), max_size=3)):
            number += draw(st.integers(1, 9))
            found.append(replace(person, id=number))
        pictures.append(Picture(f"day {i}/péople&{i}.jpg", SIZE, tuple(found), 7 * i + 3, {"license": i}))
    sigmas = tuple(0.01 * (i + 1) for i in range(len(names)))
    rest = {
        "info": {"year": 2026},
        "category": {"id": 1, "supercategory": "animal"},
        "categories": [],
        "annotations": [],
    }
    return Labels(names, limbs, tuple(pictures), draw(st.sampled_from(("person", "gym nast"))), sigmas, rest)


def through(given, *formats):
    """Written and read again in every format in turn, each in a folder of its own."""
    for name in formats:
        module = coco if name == "coco" else OTHERS[name]
        with TemporaryDirectory() as place:
            module.write(given, Path(place), "train")
            given = module.read(Path(place), "train")
    return given


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(labels(), st.permutations(("yolo", "cvat", "labelstudio", "coco")))
def test_nothing_is_lost_on_the_way_round(given_, order):
    assert through(given_, "coco") == given_
    assert through(given_, *order) == given_


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(labels())
@pytest.mark.parametrize("name", OTHERS)
def test_without_the_side_file_labels_survive(name, given_):
    """Names, visibility, joints and boxes (inside the picture for YOLO), and ids where the format can hold them."""
    with TemporaryDirectory() as place:
        root = Path(place)
        OTHERS[name].write(given_, root, "train")
        (root / "edgepose-train.json").unlink()
        if name == "yolo":
            for picture in given_.pictures:
                path = root / "images" / "train" / picture.name
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        back = OTHERS[name].read(root, "train")
    assert (back.joints, back.label) == (given_.joints, given_.label)
    if name == "cvat":
        assert back.limbs == given_.limbs
    for before, after in zip(given_.pictures, sorted(back.pictures, key=lambda p: p.name), strict=True):
        assert (after.name, after.size) == (before.name, before.size)
        kept = [p for p in before.people if writable(p)]
        assert len(after.people) == len(kept)
        for a, b in zip(kept, after.people, strict=True):
            assert [j[2] for j in a.joints] == [j[2] for j in b.joints]
            if name != "yolo":
                assert b.id == a.id
            limit = SIZE if name == "yolo" else (np.inf, np.inf)
            low = 0 if name == "yolo" else -np.inf
            want = np.clip([j[:2] for j in a.joints], low, limit)
            assert np.abs(want - [j[:2] for j in b.joints]).max() < 1e-3
            x, y, w, h = a.box
            corners = np.clip([[x, y], [x + w, y + h]], low, limit)
            assert np.abs(corners - [b.box[:2], np.add(b.box[:2], b.box[2:])]).max() < 1e-3


NAMES = ("head", "left_hand", "right_hand")
REST = {"iscrowd": 0, "area": 3210.5, "category_id": 1}
PERSON = Person(((100.25, 50.0, 2), (80.0, 90.5, 1), (0.0, 0.0, 0)), (60.0, 40.0, 80.0, 100.0), 5, REST)
SMALL = Labels(NAMES, ((0, 1), (0, 2)), (Picture("a.jpg", (200, 160), (PERSON,), 9),), rest={"category": {"id": 1}})


def test_yolo_files_are_what_ultralytics_reads(tmp_path):
    yolo.write(SMALL, tmp_path, "train")
    fields = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert fields["train"] == "images/train" and fields["names"] == {0: "person"}
    assert (fields["kpt_shape"], fields["flip_idx"], fields["kpt_names"]) == ([3, 3], [0, 2, 1], {0: list(NAMES)})
    numbers = [float(v) for v in (tmp_path / "labels" / "train" / "a.txt").read_text().split()]
    assert numbers[:5] == [0, 0.5, 0.5625, 0.4, 0.625]
    assert numbers[5:] == [0.50125, 0.3125, 2, 0.4, 0.565625, 1, 0, 0, 0]
    yolo.write(SMALL, tmp_path, "val")
    assert {"train", "val"} <= yaml.safe_load((tmp_path / "data.yaml").read_text()).keys()


def test_yolo_numbers_lie_between_0_and_1(tmp_path):
    outside = replace(
        PERSON, joints=((-5.0, 50.0, 2), (230.0, 190.0, 1), (0.0, 0.0, 0)), box=(-10.0, 100.0, 250.0, 90.0)
    )
    yolo.write(replace(SMALL, pictures=(replace(SMALL.pictures[0], people=(outside,)),)), tmp_path, "train")
    numbers = [float(v) for v in (tmp_path / "labels" / "train" / "a.txt").read_text().split()]
    assert numbers[1:5] == [0.5, 0.8125, 1, 0.375]
    assert numbers[5:11] == [0, 0.3125, 2, 1, 1, 1]


def test_cvat_files_have_what_its_import_wants(tmp_path):
    cvat.write(SMALL, tmp_path, "train")
    root = ElementTree.parse(tmp_path / "annotations.xml").getroot()
    image = root.find("image")
    assert image.attrib == {"id": "0", "name": "a.jpg", "width": "200", "height": "160"}
    skeleton, box = image.find("skeleton"), image.find("box")
    assert {"label", "source", "z_order", "occluded", "group_id"} <= skeleton.attrib.keys()
    assert skeleton.attrib["group_id"] == box.attrib["group_id"] != "0"
    assert (box.get("xtl"), box.get("ytl"), box.get("xbr"), box.get("ybr")) == ("60.0", "40.0", "140.0", "140.0")
    points = {p.get("label"): (p.get("outside"), p.get("occluded"), p.get("points")) for p in skeleton.iter("points")}
    assert points["head"] == ("0", "0", "100.25,50.0") and points["left_hand"] == ("0", "1", "80.0,90.5")
    assert points["right_hand"][0] == "1" and len(points) == 3  # every joint is there
    spec = json.loads((tmp_path / "labels.json").read_text())
    assert [(s["name"], s["type"]) for s in spec] == [("person", "skeleton"), ("person box", "rectangle")]
    assert [s["name"] for s in spec[0]["sublabels"]] == list(NAMES)
    assert 'data-node-from="1"' in spec[0]["svg"] and 'data-label-name="right_hand"' in spec[0]["svg"]
    named = [label.findtext("name") for label in root.iter("label")]
    assert named == ["person", *NAMES, "person box"]


def test_points_in_groups_and_two_decimals_are_read_from_cvat(tmp_path):
    text = """<annotations><meta><task><labels><label><name>hand</name></label><label><name>head</name></label></labels>
    </task></meta><image id="4" name="x.jpg" width="90" height="80">
    <points label="head" occluded="0" points="10.50,20.25" group_id="2"/>
    <points label="head" occluded="1" points="50.00,20.00" group_id="3"/>
    <points label="hand" occluded="0" points="11.00,30.00" group_id="2"/>
    <box label="man" xtl="5" ytl="6" xbr="25" ybr="46" occluded="0" group_id="2"/></image></annotations>"""
    (tmp_path / "annotations.xml").write_text(text)
    found = cvat.read(tmp_path / "annotations.xml", "train")
    assert found.joints == ("hand", "head")
    first, second = found.pictures[0].people
    assert first.joints == ((11.0, 30.0, 2), (10.5, 20.25, 2)) and first.box == (5, 6, 20, 40)
    assert second.joints == ((0, 0, 0), (50.0, 20.0, 1)) and second.box is None


def test_label_studio_tasks_are_in_percent_with_the_original_size(tmp_path):
    labelstudio.write(SMALL, tmp_path, "train")
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    box, head, hand = task["annotations"][0]["result"]
    assert (box["type"], box["original_width"], box["original_height"]) == ("rectanglelabels", 200, 160)
    assert [box["value"][k] for k in ("x", "y", "width", "height")] == [30, 25, 40, 62.5]
    assert head["parentID"] == hand["parentID"] == box["id"]
    assert (head["value"]["x"], head["value"]["y"]) == (50.125, 31.25)
    assert hand["meta"] == {"text": ["hidden"]} and "meta" not in head
    config = ElementTree.parse(tmp_path / "config.xml").getroot()
    points = [(e.get("value"), e.get("model_index")) for e in config.find("KeyPointLabels")]
    assert points == [(n, str(i)) for i, n in enumerate(NAMES)]
    names = {e.get("name"): e.get("toName") for e in config if e.get("toName")}
    assert {box["from_name"], head["from_name"]} == names.keys() and set(names.values()) == {box["to_name"]}


def exported(regions, image="/data/upload/1/0a1b2c3d-x.jpg"):
    same = {"original_width": 200, "original_height": 100}
    return [{"id": 1, "data": {"image": image}, "annotations": [{"result": [{**same, **r} for r in regions]}]}]


def region(key, name, x, y, **more):
    return {"id": key, "type": "keypointlabels", "value": {"x": x, "y": y, "keypointlabels": [name]}, **more}


def rectangle(key, x):
    value = {"x": x, "y": 0, "width": 50, "height": 100, "rectanglelabels": ["person"]}
    return {"id": key, "type": "rectanglelabels", "value": value}


def test_key_points_find_their_person_by_parent_relation_or_when_there_is_one(tmp_path):
    relation = {"type": "relation", "from_id": "b", "to_id": "q"}
    regions = [
        rectangle("a", 0),
        rectangle("b", 50),
        region("p", "head", 10, 20, parentID="a"),
        region("q", "head", 60, 20),
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(exported([*regions, relation])))
    found = labelstudio.read(path, "train").pictures[0]
    assert found.name == "x.jpg" and found.size == (200, 100)
    assert [p.joints[0] for p in found.people] == [(20, 20, 2), (120, 20, 2)]
    path.write_text(json.dumps(exported([rectangle("a", 0), region("p", "head", 10, 20)])))
    (person,) = labelstudio.read(path, "train").pictures[0].people
    assert person.box == (0, 0, 100, 100) and person.joints == ((20, 20, 2),)
    path.write_text(json.dumps(exported([region("p", "head", 10, 20), region("q", "head", 60, 20)])))
    with pytest.raises(ValueError, match=r"x\.jpg has several 'head' without a person"):
        labelstudio.read(path, "train")


def test_joints_without_a_config_are_in_the_order_of_a_known_skeleton(tmp_path):
    spelt = [j.replace("left_", "L ").replace("right_", "R ") for j in CROWDPOSE14.joints]
    points = [region(f"p{i}", name, i, 50, parentID="a") for i, name in enumerate(spelt)]
    (tmp_path / "export.json").write_text(json.dumps(exported([rectangle("a", 0), *points[::-1]])))
    found = labelstudio.read(tmp_path / "export.json", "train")
    assert found.joints == tuple(spelt)
    assert [j[0] for j in found.pictures[0].people[0].joints] == [2.0 * i for i in range(14)]
    (tmp_path / "export.json").write_text(json.dumps(exported([rectangle("a", 0), *points[:2][::-1]])))
    assert labelstudio.read(tmp_path / "export.json", "train").joints == ("R shoulder", "L shoulder")


def test_the_last_annotation_counts_and_predictions_where_there_is_none(tmp_path):
    path = tmp_path / "export.json"
    (task,) = exported([rectangle("a", 0), region("p", "head", 10, 20, parentID="a")])
    (other,) = exported([rectangle("a", 0), region("p", "head", 30, 20, parentID="a")])
    cancelled = {**exported([])[0]["annotations"][0], "was_cancelled": True}
    both = {**task, "annotations": [*task["annotations"], *other["annotations"], cancelled]}
    path.write_text(json.dumps([both]))
    assert labelstudio.read(path, "train").pictures[0].people[0].joints[0][0] == 60
    path.write_text(json.dumps([{"data": task["data"], "predictions": task["annotations"]}]))
    assert labelstudio.read(path, "train").pictures[0].people[0].joints[0][0] == 20


def test_changes_made_in_the_tool_win_over_the_side_file(tmp_path):
    crowd = Person(((0.0, 0.0, 0),) * 3, (1.0, 2.0, 30.0, 40.0), 6, REST | {"iscrowd": 1})
    second = replace(PERSON, id=7, box=(10.0, 20.0, 40.0, 50.0), rest=REST | {"track": 3})
    third = replace(second, id=8, box=(90.0, 20.0, 40.0, 50.0))
    given_ = replace(SMALL, pictures=(replace(SMALL.pictures[0], people=(PERSON, crowd, second, third)),))
    cvat.write(given_, tmp_path, "train")
    path = tmp_path / "annotations.xml"
    tree = ElementTree.parse(path)
    image = tree.getroot().find("image")
    _, two, three = image.findall("skeleton")
    two.find("points").set("points", "33.00,44.00")
    image.remove(three)
    tree.write(path)
    found = cvat.read(tmp_path, "train").pictures[0].people
    assert [p.id for p in found] == [5, 6, 7]
    assert found[0] == PERSON and found[1] == crowd
    assert found[2].joints[0] == (33, 44, 2)
    assert found[2].rest == {"iscrowd": 0, "category_id": 1, "track": 3}  # the area was that of the old joints


def test_other_categories_and_annotations_come_back(tmp_path):
    table = coco.to_json(SMALL)
    table["categories"].insert(0, {"id": 2, "name": "ball"})
    table["annotations"].append({"id": 6, "image_id": 9, "category_id": 2, "bbox": [1, 2, 3, 4]})
    given_ = coco.from_json(table, Path("x.json"))
    assert [len(p.people) for p in given_.pictures] == [1]
    back = coco.to_json(through(given_, "yolo", "labelstudio"))
    assert {c["name"] for c in back["categories"]} == {"ball", "person"}
    assert back["annotations"][-1] == table["annotations"][-1]


def test_converted_sets_are_read_by_the_data_sets(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.jpg"), np.zeros((160, 200, 3), np.uint8))
    coco.write(replace(SMALL, sigmas=(0.1, 0.2, 0.2)), tmp_path, "shoot")
    command = [
        "data",
        "convert",
        str(tmp_path / "shoot.json"),
        "--from",
        "coco",
        "--pictures",
        str(tmp_path / "pictures"),
    ]
    assert cli.main([*command, "--to", "yolo", "--out", str(tmp_path / "y"), "--split", "val"]) == 0
    assert "1 pictures, 1 people, 3 joints: YOLO pose folder" in capsys.readouterr().out
    assert cli.main([*command, "--to", "coco", "--out", str(tmp_path / "c"), "--split", "val"]) == 0
    for record in (*yolo_data.read(tmp_path / "y", "val"), *custom.read(tmp_path / "c", "val")):
        assert record.truth.skeleton.joints == NAMES
        assert record.truth.skeleton.limbs == (("head", "left_hand"), ("head", "right_hand"))
        assert record.truth.skeleton.sigmas == (0.1, 0.2, 0.2)
        assert record.truth.xy[0].tolist() == pytest.approx(np.array([[100.25, 50], [80, 90.5], [0, 0]]), abs=1e-4)
        assert record.visible.tolist() == [[2, 1, 0]]
        assert record.truth.boxes[0].tolist() == pytest.approx([60, 40, 140, 140])
        assert record.read().shape == (160, 200, 3)


def test_missing_pictures_are_counted(tmp_path, capsys):
    coco.write(SMALL, tmp_path, "train")
    (tmp_path / "pictures").mkdir()
    command = ["data", "convert", str(tmp_path), "--from", "coco", "--to", "yolo", "--out", str(tmp_path / "y")]
    assert cli.main([*command, "--pictures", str(tmp_path / "pictures")]) == 1
    assert "1 pictures are not in" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "..\\a.jpg", "C:/a.jpg", ""])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    bad = replace(SMALL, pictures=(replace(SMALL.pictures[0], name=name),))
    with pytest.raises(ValueError, match="leads out of its folder"):
        yolo.write(bad, tmp_path / "out", "train")
    assert not (tmp_path / "out").exists() and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("annotations.xml", "<annotations>", "is not XML"),
        ("annotations.xml", "<annotations><track/></annotations>", "tracks of a video.*CVAT for images 1.1"),
        ("annotations.xml", '<annotations><image name="a"/></annotations>', "neither skeletons nor points"),
        ("tasks.json", '{"a": 1}', "not a list of tasks"),
        ("tasks.json", '[{"data": {"image": "a.jpg"}}]', "no key points"),
        ("train.json", '{"images": [], "categories": []}', "no category with `keypoints`"),
        ("data.yaml", "kpt_shape: [3, 3]", "name their folder"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    kind = {"annotations.xml": cvat, "tasks.json": labelstudio, "train.json": coco, "data.yaml": yolo}[name]
    with pytest.raises(ValueError, match=match):
        kind.read(tmp_path, "train")


def test_two_pictures_for_one_label_file_are_refused(tmp_path):
    twice = replace(SMALL, pictures=(SMALL.pictures[0], replace(SMALL.pictures[0], name="a.png")))
    with pytest.raises(ValueError, match="share the label file a.txt"):
        yolo.write(twice, tmp_path, "train")


def test_misuse_of_the_command(tmp_path, capsys):
    command = ["data", "convert", str(tmp_path), "--to", "coco", "--out", str(tmp_path / "o")]
    assert cli.main([*command, "--from", "labelstudo"]) == 2
    assert "Did you mean 'labelstudio'" in capsys.readouterr().err
    assert cli.main([*command, "--from", "cvat"]) == 2
    assert "looked for annotations.xml" in capsys.readouterr().err


def test_every_format_has_the_three_names():
    for name in folder.names("edgepose.formats"):
        module = folder.entry("edgepose.formats", name)
        assert module.WHAT and callable(module.read) and callable(module.write)
