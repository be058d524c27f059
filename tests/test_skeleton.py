"""Skeletons: mirror from names, limbs by name, files."""

import pytest

from edgepose.skeleton import COCO17, CROWDPOSE14, SKELETONS, Skeleton


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_mirror_is_an_involution_that_swaps_names(skeleton):
    for row, other in enumerate(skeleton.mirror):
        assert skeleton.mirror[other] == row
        name, pair = skeleton.joints[row], skeleton.joints[other]
        assert pair == name.replace("left", "@").replace("right", "left").replace("@", "right")
    assert {skeleton.side(j) for j in skeleton.joints} <= {"left", "right", "middle"}
    pairs = {frozenset(limb) for limb in skeleton.limb_rows}
    assert len(pairs) == len(skeleton.limbs) and {frozenset(skeleton.mirror[r] for r in p) for p in pairs} == pairs
    assert Skeleton.from_dict(skeleton.to_dict()) == skeleton


def test_published_orders():
    assert COCO17.mirror == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert CROWDPOSE14.mirror == (1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13)
    assert COCO17.index["left_wrist"] == 9 and COCO17.side("nose") == "middle"


def test_a_skeleton_from_a_file(tmp_path):
    path = tmp_path / "hand.yaml"
    path.write_text("name: hand\njoints: [wrist, left_tip, right_tip]\nlimbs: [[wrist, left_tip]]\n")
    hand = Skeleton.from_yaml(path)
    assert hand.mirror == (0, 2, 1) and hand.limb_rows == ((0, 1),) and hand.sigmas == (0.072,) * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joints: [a, a]", "distinct"),
        ("joints: [left_a]", "right_a"),
        ("joints: [a]\nlimbs: [[a, b]]", "'b'"),
        ("joints: [a]\nlimbs: [a]", "pairs"),
        ("joints: [a]\nsigmas: [1, 2]", "2 sigmas"),
        ("joints: [a]\nsigmas: [0]", "positive"),
        ("- a", "joints"),
        ("a: [", "not a skeleton"),
    ],
)
def test_files_that_are_no_skeleton(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        Skeleton.from_yaml(path)
    assert "bad.yaml" in str(error.value)
    with pytest.raises(ValueError, match="cannot read"):
        Skeleton.from_yaml(tmp_path / "absent.yaml")


def test_a_message_about_an_unknown_name_stays_short():
    from edgepose import folder

    few = [f"net-{i}" for i in range(4)]
    assert folder.unknown("model", "nut-1", few).endswith("Did you mean 'net-1'? Known: net-0, net-1, net-2, net-3")
    many = [f"net-{i}" for i in range(100)]
    said = folder.unknown("model", "net-77x", many)
    assert "Did you mean 'net-77'?" in said and said.endswith(" and 90 more") and len(said) < 200
    assert folder.unknown("model", "?", many).endswith("net-9 and 90 more")
