"""Meshes and point clouds are seen as geometry says, and judged by the mean over all cameras."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.depth import Intrinsics
from omnivore_jax.data.protocol import DepthConvention
from omnivore_jax.data.sample import BadRecord
from omnivore_jax.data.stills import decode_rgbd, decode_still
from omnivore_jax.inference import extraction, scenes
from omnivore_jax.inference.media import Finder
from omnivore_jax.inference.prediction import Asker, Question
from omnivore_jax.inference.renderer import Shot, directions, distance_of
from omnivore_jax.inference.scenes import FX, SCALE, SIDE, Cameras
from omnivore_jax.inference.trained import open_trained

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("vtkmodules")

WEIGHTS = Path(__file__).parents[1] / "before" / "before.safetensors"
UNKNOWN = Intrinsics(0.0, 0.075, 0.001)
RED, GREEN, BLUE, BACKGROUND = (255, 0, 0), (0, 255, 0), (0, 0, 255), (124, 116, 104)
CORNERS = np.array([[x, y, z] for x in (0, 2) for y in (0, 1) for z in (0, 1)], float)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def box(path, corners=CORNERS, colour=RED):
    """Writes a box of 2 x 1 x 1 metres by hand, as text."""
    head = ["ply", "format ascii 1.0", f"element vertex {len(corners)}"]
    head += [f"property float {axis}" for axis in "xyz"]
    head += [f"property uchar {name}" for name in ("red", "green", "blue")]
    head += [f"element face {len(SIDES)}", "property list uchar int vertex_indices", "end_header"]
    rows = [" ".join(map(str, [*corner, *colour])) for corner in corners]
    rows += [" ".join(map(str, [4, *side])) for side in SIDES]
    path.write_text("\n".join([*head, *rows]) + "\n")
    return path


def found(path, **cameras):
    (item,) = Finder(None, UNKNOWN, Cameras(**cameras)).find([path]).items
    return item


def photographs(path, **cameras):
    """Colours, and metres, of all cameras."""
    records = found(path, **cameras).records()
    rgb = [cv2.imdecode(np.frombuffer(r.media, np.uint8), -1)[..., ::-1] for r in records]
    depth = [cv2.imdecode(np.frombuffer(r.depth, np.uint8), -1) for r in records]
    return np.stack(rgb), np.stack(depth) * SCALE


def distances(direction, up, low, high):
    """Depth of a box along the axis of a camera, for every pixel, by Smits' slabs; inf beside."""
    middle, radius = (low + high) / 2, np.linalg.norm(high - low) / 2
    shot = Shot(1, "z", SIDE, FX, 1.0)
    eye, ahead = middle + distance_of(radius, shot) * direction, -direction
    right = np.cross(ahead, up)
    right /= np.linalg.norm(right)
    place = (np.arange(SIDE) + 0.5 - SIDE / 2) / FX
    rays = ahead + place[None, :, None] * right - place[:, None, None] * np.cross(right, ahead)
    with np.errstate(divide="ignore"):
        near, far = sorted_pair((low - eye) / rays, (high - eye) / rays)
    enters, leaves = near.max(-1), far.min(-1)
    return np.where(enters < leaves, enters, np.inf)


def sorted_pair(a, b):
    return np.minimum(a, b), np.maximum(a, b)


@pytest.mark.parametrize("up", ["z", "y"])
def test_depth_of_a_box_is_what_geometry_says(tmp_path, up):
    rgb, depth = photographs(box(tmp_path / "box.ply"), count=5, up=up)
    axis = np.array([0.0, 1, 0] if up == "y" else [0, 0, 1])
    for k, direction in enumerate(directions(5, up)):
        assert np.isclose(np.linalg.norm(direction), 1) and np.isclose(direction @ axis, 0.5)
        expected = distances(direction, axis, CORNERS.min(0), CORNERS.max(0))
        there = np.isfinite(expected)
        seen = depth[k] < 49
        assert (there ^ seen).sum() < 0.02 * there.sum() < SIDE * SIDE  # pixels of the edges
        both = cv2.erode((there & seen).astype(np.uint8), np.ones((3, 3))) > 0
        assert np.abs(depth[k] - expected)[both].max() < 1e-3
        # the light is the camera's: sides turned away are darker, none is of another colour
        assert (rgb[k][both][:, 1:] == 0).all() and rgb[k][both][:, 0].min() > 40
        assert (rgb[k][~there & ~seen] == BACKGROUND).all()


def test_depth_goes_the_way_of_all_depth_maps(tmp_path):
    record = found(box(tmp_path / "box.ply"), count=1).records()[0]
    _, depth = photographs(tmp_path / "box.ply", count=1)
    assert (record.fx, record.baseline, record.rotated) == (FX, 0.075, False)
    _, disparity = decode_rgbd(record)
    np.testing.assert_allclose(disparity, 0.075 * FX / depth[0], rtol=1e-4)
    layers = decode_still(record, "rgbd", DepthConvention("near", 0.01, 20.0))
    assert np.isclose(layers.disparity.min(), 0.075 * FX / 50, rtol=1e-3)  # nothing: far
    assert layers.disparity.max() <= 20


def test_units_and_focal_lengths_are_those_that_are_given(tmp_path):
    _, metres = photographs(box(tmp_path / "m.ply"), count=1)
    large = box(tmp_path / "mm.ply", 1000 * CORNERS)
    _, millimetres = photographs(large, count=1, unit=0.001)
    np.testing.assert_allclose(millimetres, metres, atol=2e-3)
    with pytest.raises(BadRecord, match=r"the scene is .* m away, .* give --unit"):
        photographs(large, count=1)
    (item,) = Finder(None, UNKNOWN._replace(fx=300.0, baseline=0.1)).find([large]).items
    assert item.scene.intrinsics[:2] == (300.0, 0.1) and "focal length 300" in item.scene.describe()


def test_a_cloud_is_closed_and_has_its_colours(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    colours = np.where(points[:, 2:] > 0, GREEN, BLUE).astype(np.uint8)
    trimesh.PointCloud(points, colours).export(tmp_path / "ball.ply")
    whole = (tmp_path / "ball.ply").read_bytes()
    start = whole.index(b"end_header\n") + len(b"end_header\n")
    # where a scanner saw nothing it writes no number
    nothing = np.full(3, np.nan, "<f4").tobytes()
    (tmp_path / "ball.ply").write_bytes(whole[:start] + nothing + whole[start + 12 :])
    rgb, depth = photographs(tmp_path / "ball.ply", count=2)
    distance = distance_of(1.0, Shot(1, "z", SIDE, FX, 1.0))
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    inside = np.hypot(rows, columns) < 0.9 * FX / np.sqrt(distance**2 - 1)
    assert (depth[:, inside] < distance).mean() > 0.93  # the front hides the back
    assert np.abs(depth[:, SIDE // 2, SIDE // 2] - distance + 1).max() < 0.05
    kinds = {tuple(colour) for colour in rgb[:, inside].reshape(-1, 3).tolist()}
    assert kinds <= {GREEN, BLUE, BACKGROUND}
    # from 30 degrees above, the middle of the ball lies far down
    for row, colour in ((100, GREEN), (380, GREEN), (440, BLUE)):
        near = rgb[0, row : row + 9, SIDE // 2 : SIDE // 2 + 9]
        assert (np.median(near, (0, 1)) == colour).all(), row


@pytest.mark.parametrize("form", ["glb", "obj"])
def test_textures_lie_on_faces_as_they_should(tmp_path, form):
    from PIL import Image

    # upright, seen from the front: red and green above, blue and white below
    picture = np.repeat(np.repeat([[RED, GREEN], [BLUE, (255, 255, 255)]], 16, 0), 16, 1)
    corners = [[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]
    visual = trimesh.visual.TextureVisuals(
        uv=[[0, 0], [1, 0], [1, 1], [0, 1]], image=Image.fromarray(picture.astype(np.uint8))
    )
    mesh = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)
    mesh.export(tmp_path / f"card.{form}")
    rgb, _ = photographs(tmp_path / f"card.{form}", count=1)
    assert rgb[0, 180, 180].argmax() == 0 and rgb[0, 180, 300].argmax() == 1
    assert rgb[0, 300, 180].argmax() == 2 and np.ptp(rgb[0, 300, 300].astype(int)) < 5


def ask(media, **question):
    asker = Asker(open_trained(WEIGHTS), Question(top=100, **question), 2)
    asker.check(media)
    return list(asker.ask(media))


def probabilities(prediction):
    said = {answer.index: answer.probability for answer in prediction.answers}
    return np.array([said[k] for k in range(len(said))])


def test_a_scene_is_judged_by_the_mean_of_what_all_its_pictures_are(tmp_path):
    """The pictures are written as files, and judged as any RGB-D."""
    scene = found(box(tmp_path / "box.ply"))
    (whole,) = ask([scene], keep_pictures=True)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k, record in enumerate(scene.records()):
        (folder / f"{k}.png").write_bytes(record.media)
        (folder / f"{k}.depth.png").write_bytes(record.depth)
    numbers = {"fx": record.fx, "baseline": record.baseline, "scale": record.scale}
    (folder / "depth.json").write_text(json.dumps(numbers))
    pictures = Finder(None, UNKNOWN).find([folder]).items
    single = [probabilities(prediction) for prediction in ask(pictures)]
    assert len(single) == 8 and np.ptp(single, axis=0).max() > 1e-4
    np.testing.assert_allclose(probabilities(whole), np.mean(single, 0), atol=1e-5)
    assert whole.view.startswith("8 cameras around it, z is up, 480 x 480 pixels with focal length")
    assert len(whole.shown.rgb) == len(whole.shown.disparity) == 8
    (alone,) = ask([found(tmp_path / "box.ply", count=1)])
    np.testing.assert_allclose(probabilities(alone), single[0], atol=1e-5)


def test_scenes_stand_beside_other_media_and_have_features(tmp_path):
    box(tmp_path / "a.ply")
    box(tmp_path / "b.ply", 2 * CORNERS, BLUE)
    (tmp_path / "c.png").write_bytes(cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1])
    (tmp_path / "d.glb").write_bytes(b"glTF nothing")
    media = Finder(None, UNKNOWN, Cameras(3)).find([tmp_path]).items
    assert [item.kind for item in media] == ["rgbd", "rgbd", "image", "rgbd"]
    answers = {p.medium.path.name: p for p in ask(media)}
    assert "it is damaged (" in answers["d.glb"].fault and len(answers) == 4
    assert answers["c.png"].head == "image" and answers["a.ply"].head == "rgbd"
    features, faults = extraction.of_media(open_trained(WEIGHTS), media, extraction.Look(), 2)
    assert features.feature.shape[0] == 3 and [m.path.name for m, _ in faults] == ["d.glb"]
    np.testing.assert_allclose(np.linalg.norm(features.feature, axis=1), 1, rtol=1e-5)


def spoil(path, name):
    content = path.read_bytes()
    spoilt = {
        "cut.ply": content[: len(content) // 3],
        "empty.obj": b"# nothing\n",
        "flat.ply": box(path, 0 * CORNERS).read_bytes(),
        "none.glb": b"glTF" + bytes(20),
        "none.stl": b"solid of nothing",
    }
    (path.parent / name).write_bytes(spoilt[name])
    return path.parent / name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cut.ply", "it is damaged ("),
        ("empty.obj", "holds neither faces nor points"),
        ("flat.ply", "it is 0 units large"),
        ("none.glb", "it is damaged ("),
        ("none.stl", "holds neither faces nor points"),
    ],
)
def test_what_shows_nothing_is_one_line(tmp_path, name, words):
    with pytest.raises(BadRecord) as error:
        found(spoil(box(tmp_path / "box.ply"), name), count=1).records()
    assert words in error.value.reason and "\n" not in error.value.reason


def end(*_):
    os.abort()


def test_a_machine_without_opengl_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "photograph", end)
    with pytest.raises(BadRecord, match="OpenGL does not work here; install Mesa's"):
        found(box(tmp_path / "box.ply")).records()


def test_without_the_libraries_the_command_that_installs_them_is_named(tmp_path, monkeypatch):
    path = box(tmp_path / "box.ply")
    monkeypatch.setattr(scenes, "find_spec", lambda name: None if name == "trimesh" else name)
    with pytest.raises(UserError) as error:
        found(path)
    assert (
        "drawing it takes trimesh, not installed here; pip install -r requirements-scenes.txt"
        in str(error.value)
    )


def test_a_scene_has_no_map_beside_it(tmp_path):
    path = box(tmp_path / "box.ply")
    with pytest.raises(UserError, match="is a scene with a shape of its own"):
        Finder(path, UNKNOWN).find([path])
