"""A dataset of label maps trains beside pictures, clips and RGB-D in one run (paper, section 6)."""

import json

import pytest

from tests.whole_runs import complete, training_rows

CONFIG = """
from ml_collections import ConfigDict

from configs import demo


def get_config():
    config = demo.get_config()
    config.name = "joint-maps"
    config.data.demo_maps = ConfigDict(demo.maps())
    return config
"""


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["separate", "mixed"])
def test_label_maps_beside_three_classifications_in_one_run(tmp_path, batching):
    (tmp_path / "joint_maps.py").write_text(CONFIG)
    changes = {"train.steps": 16, "train.batching": batching, "eval.retrieval": 0}
    changes |= {"train.batch_size": 40 if batching == "mixed" else 0}
    said, _ = complete(str(tmp_path / "joint_maps.py"), tmp_path / "run", changes, "--json")
    found = json.loads(said)
    assert {row["name"] for row in found["datasets"]} == {"demo_image", "demo_video", "demo_rgbd"}
    [maps] = found["maps"]
    assert maps["name"] == "demo_maps" and 0 <= maps["miou"] <= 1 and maps["n"] == 1000
    trained = {name for row in training_rows(tmp_path / "run") for name in row["train"]}
    assert trained == {"demo_image", "demo_video", "demo_rgbd", "demo_maps"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Label maps" in page and "paper" in page
