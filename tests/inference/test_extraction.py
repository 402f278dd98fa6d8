"""Features in memory, in tables and in folders are the same; a pass that stops goes on."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.depth import Intrinsics
from omnivore_jax.inference import extraction, feature_set, neighbours
from omnivore_jax.inference.exam import Request
from omnivore_jax.inference.extraction import Look
from omnivore_jax.inference.faiss_search import FaissSearch
from omnivore_jax.inference.hall import Hall, _reading_order
from omnivore_jax.inference.media import Finder
from omnivore_jax.inference.trained import open_trained
from omnivore_jax.train.mesh import MeshConfig, make_mesh
from tests import media

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "tests" / "before" / "before.safetensors"


@pytest.fixture(scope="module")
def trained():
    return open_trained(WEIGHTS)


@pytest.fixture(scope="module")
def hall():
    return Hall(make_mesh(MeshConfig(), jax.devices()[:1]))


@pytest.fixture(scope="module")
def whole(trained, hall):
    return extraction.of_dataset(trained, Request("demo_image"), hall)


def test_an_index_holds_the_features_and_is_read_where_it_lies(tmp_path, trained, hall, whole):
    out = tmp_path / "index"
    assert extraction.write_index(out, trained, Request("demo_image"), hall) == 1000
    index = feature_set.load(out)
    assert isinstance(index.feature, np.memmap)
    np.testing.assert_array_equal(index.feature, whole.feature)
    np.testing.assert_array_equal(index.label, whole.label)
    assert (index.ids, index.classes, index.origin) == (whole.ids, whole.classes, whole.origin)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]
    found = neighbours.find(whole, index, 3, 0.07, 1)
    assert [answers[0].id for answers in found.answers[:50]] == list(whole.ids[:50])


def test_a_folder_of_something_else_is_no_index(tmp_path, trained, hall):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="no index of ours .it holds thesis.tex"):
        with feature_set.new_index(tmp_path / "mine", (1, 1)):
            pass
    with pytest.raises(UserError, match="mine cannot be read: No such file"):
        feature_set.load(tmp_path / "mine")


def test_a_table_holds_the_same_features(tmp_path, whole):
    parquet = pytest.importorskip("pyarrow.parquet")
    some = whole._replace(feature=whole.feature[:7], ids=whole.ids[:7], label=whole.label[:7])
    feature_set.save(tmp_path / "f.parquet", some)
    again = feature_set.load(tmp_path / "f.parquet")
    np.testing.assert_array_equal(again.feature, some.feature)
    assert again.label.tolist() == some.label.tolist() and again[1:2] + again[3:] == (
        some.ids,
        some.classes,
        some.origin,
    )
    assert parquet.read_table(tmp_path / "f.parquet")["class"].to_pylist() == some.names
    (tmp_path / "g.parquet").write_bytes(b"text")
    with pytest.raises(UserError, match="g.parquet is no Parquet file"):
        feature_set.load(tmp_path / "g.parquet")


def test_maps_are_of_the_stage_and_their_mean_is_the_feature(tmp_path, trained):
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(media.jpeg(media.scene(20 * k)))
    files = Finder(None, Intrinsics(0.0, 0.075, 0.001)).find([tmp_path]).items
    pooled, _ = extraction.of_media(trained, files, Look(), 1)
    maps, _ = extraction.of_media(trained, files, Look(stage="last"), 1)
    mean = maps.feature.mean((1, 2, 3))
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    assert maps.feature.ndim == 5 and maps.feature.shape[:2] == (3, 1)
    np.testing.assert_allclose(mean, pooled.feature, atol=1e-6)
    with pytest.raises(UserError, match="the gallery are maps of stage last"):
        neighbours.find(pooled, maps, 1, 0.07, 1)
    with pytest.raises(UserError, match="--stage=stage9: the model has last, "):
        extraction.of_media(trained, files, Look(stage="stage9"), 1)
    with pytest.raises(UserError, match="maps have no place in a table"):
        feature_set.save(tmp_path / "f.parquet", maps)


@pytest.mark.parametrize("count", [1, 7, 8, 101])
@pytest.mark.parametrize("parts", [2, 4])
def test_samples_that_processes_read_are_found_in_order(count, parts):
    order = _reading_order(count, 8, parts)
    assert sorted(order) == list(range(count))
    each = 8 // parts
    loaded = [list(range(part, count, parts)) for part in range(parts)]
    read = [column[at : at + each] for at in range(0, count, each) for column in loaded]
    assert list(order) == [k for rows in read for k in rows]


def test_faiss_finds_what_exact_search_finds(whole):
    pytest.importorskip("faiss")
    exact = neighbours.find(whole, whole, 5, 0.07, 3)
    flat = neighbours.find(whole, whole, 5, 0.07, 3, FaissSearch("Flat"))
    assert flat.knn == exact.knn
    same = [a[0].id == b[0].id for a, b in zip(exact.answers, flat.answers, strict=True)]
    assert np.mean(same) > 0.99  # of equal ones another may come first
    clusters = neighbours.find(whole, whole, 5, 0.07, 1, FaissSearch("IVF4,Flat"))
    assert clusters.knn is not None and clusters.knn.top1 > exact.knn.top1 - 0.05
    with pytest.raises(UserError, match="--faiss_index=Nothing: FAISS says"):
        neighbours.find(whole, whole, 5, 0.07, 3, FaissSearch("Nothing"))


def command(*arguments, **environment):
    line = [sys.executable, "-m", *map(str, arguments), f"--weights={WEIGHTS}"]
    return subprocess.Popen(
        line,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_an_index_that_is_killed_goes_on_and_ends_with_the_same_files(tmp_path):
    def start(name):
        flags = ["--dataset=demo_image", "--batch_size=4", "--threads=1"]
        return command("omnivore_jax.retrieve", "index", *flags, f"--out={tmp_path / name}")

    whole = start("whole")
    whole.communicate()
    assert whole.returncode == 0
    killed = start("killed")
    while len(list(tmp_path.glob(".killed.parts/*/*.npz"))) < 2:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".killed.parts/*/0000[01]*")}
    assert len(before) == 2 and not (tmp_path / "killed").exists()
    again = start("killed")
    said = again.communicate()[1]
    assert again.returncode == 0, said
    for name in (feature_set.ARRAY, feature_set.SAMPLES):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["features", "index"])
def test_two_processes_extract_what_one_does(tmp_path, kind, whole):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / ("f.npz" if kind == "features" else "f")
    what = ["omnivore_jax.features"] if kind == "features" else ["omnivore_jax.retrieve", "index"]
    shared = ["--dataset=demo_image", f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    both = [
        command(*what, *shared, f"--process_id={k}", f"--out={out}", XDG_CACHE_HOME=f"{tmp_path}")
        for k in range(2)
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "1,000 features" in said[0][0] and "features" not in said[1][0]
    found = feature_set.load(out)
    assert found.ids == whole.ids and found.label.tolist() == whole.label.tolist()
    np.testing.assert_allclose(found.feature, whole.feature, atol=1e-5)
