import html

import numpy as np
import pytest

from omnivore_jax import prepare as command
from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.datasets import PUBLIC
from omnivore_jax.data.decode import Clip
from omnivore_jax.data.records import Record, RecordReader
from omnivore_jax.data.transforms import TrainTransform
from omnivore_jax.prepare import Options
from omnivore_jax.reporting import preview
from tests.ingest.layouts.downloads import lay
from tests.ingest.layouts.test_own_table import MAP_FILES
from tests.media import clip, depth_map, jpeg, number, part, png
from tests.reporting.test_render import Page


def prepare(tmp_path, files, **options):
    for name, data in files.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    out, page = tmp_path / "data", tmp_path / "page.html"
    asked = Options(str(tmp_path / "src"), str(out), preview=str(page), threads=2, **options)
    command.prepare("folder", asked)
    return out, page.read_text()


def pictures_of(text):
    return [attributes for tag, attributes in Page(text).tags if tag == "img"]


def test_eight_samples_of_each_split_are_shown_four_times_and_names_are_escaped(tmp_path):
    files = {f"train/<b>/{k}&.jpg": jpeg(part(k)) for k in range(11)}
    files |= {f"train/dog/{k}.jpg": jpeg(part(k, 90)) for k in range(3)}
    files |= {f"val/<b>/{k}.jpg": jpeg(part(k, 70)) for k in range(2)}
    files |= {"val/dog/0.jpg": jpeg(part(9, 60))}
    out, text = prepare(tmp_path, files)
    shown = pictures_of(text)
    assert len(shown) == (8 + 3) * 4
    assert all(picture["src"].startswith("data:image/") for picture in shown)
    assert "<b>" not in text and html.escape("<b>") in text and "&amp;.jpg" in text
    assert text.count("label 0") + text.count("label 1") == 11
    command.preview(Options(out=str(out)))
    assert (out / "preview.html").read_text() == text


def test_depth_is_shown_beside_every_picture(tmp_path):
    files = {f"desk/{k}.jpg": jpeg(part(k)) for k in range(3)}
    files |= {f"desk/{k}.depth.png": png(depth_map(80, 96)) for k in range(3)}
    _, text = prepare(tmp_path, files, kind="rgbd", fx=500.0)
    assert len(pictures_of(text)) == 3 * 4 * 2
    # .075 m x 500 pixels / depth, from a hole, which counts as 50 m, to .5 m
    assert "disparity 0.75 to 73.4" in text and "96 x 80" in text


def test_label_maps_are_painted_beside_every_picture_and_named(tmp_path):
    out = tmp_path / "data"
    source = lay(tmp_path / "src", MAP_FILES)
    page = tmp_path / "page.html"
    asked = Options(str(source), str(out), preview=str(page), threads=2)
    command.prepare("manifest", asked)
    text = page.read_text()
    assert len(pictures_of(text)) == 2 * 4 * 2 and "sky, sea, land" in text
    assert "label 0" not in text


def test_clips_are_strips_with_the_ticks_of_their_frames(tmp_path):
    _, text = prepare(tmp_path, {"pan/a.mp4": clip()})
    assert len(pictures_of(text)) == 4 and "128 x 96, 60 frames, 2.36 s" in text
    ticks = [a["d"].count("M") for tag, a in Page(text).tags if tag == "path"]
    assert ticks == [32] * (2 + 1 + 4)


def test_the_ticks_of_a_seed_are_the_frames_that_training_takes():
    recipe = PUBLIC["kinetics400"].config(size=96, crop="center", flip=0.0)
    train, data = TrainTransform(recipe, 75.0), clip("h264 of varying rate", 60)
    video = Clip(data)
    for seed in preview.SEEDS:
        frames = train.draw_frames(video.times, np.random.default_rng(seed))
        sample = train(Record("a", 0, data, ""), seed)
        assert [bits(frame) for frame in sample.rgb] == [k & 126 for k in frames]
        assert [number(frame) for frame in video.frames(frames)] == frames.tolist()


def bits(frame):
    """Reads the squares that a central crop leaves whole."""
    return sum(
        1 << bit for bit in range(1, 7) if frame[4:8, 16 * bit - 12 : 16 * bit - 4].mean() > 128
    )


def test_bad_records_are_named_and_the_others_shown(tmp_path, monkeypatch):
    files = {f"cat/{k}.jpg": jpeg(part(k)) for k in range(4)}
    out, _ = prepare(tmp_path, files)
    read = RecordReader.__getitem__

    def damage(self, index):
        record = read(self, index)
        changes = {0: {"media": b"<i>"}, 1: {"label": 7}}
        return record._replace(**changes.get(index, {}))

    monkeypatch.setattr(RecordReader, "__getitem__", damage)
    command.preview(Options(out=str(out)))
    text = (out / "preview.html").read_text()
    assert len(pictures_of(text)) == 2 * 4 and text.count('class="bad"') == 2
    assert "label 7, but there are 1 classes" in text


def test_a_dataset_of_the_paper_has_its_own_recipe_and_others_that_of_their_kind():
    def content(by):
        return manifest.Manifest("video", ("a",), {}, {"by": by})

    assert preview.recipe_of(content("prepare ssv2"))[0] == "ssv2"
    assert preview.recipe_of(content("prepare folder"))[0] == "kinetics400"
    assert preview.recipe_of(content("prepare pets"))[0] == "kinetics400"


def test_bytes_that_are_no_text_are_escaped():
    assert preview.printable("a\udcff") == "a\\udcff"


def test_a_folder_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json"):
        command.preview(Options(out=str(tmp_path)))


def test_a_page_that_is_a_folder_is_refused_before_anything_is_prepared(tmp_path):
    (tmp_path / "src" / "cat").mkdir(parents=True)
    (tmp_path / "src" / "cat" / "0.jpg").write_bytes(jpeg(part(0)))
    out = tmp_path / "data"
    asked = Options(str(tmp_path / "src"), str(out), preview=str(tmp_path))
    with pytest.raises(UserError, match="--preview=.* is a folder"):
        command.prepare("folder", asked)
    assert not out.exists()
