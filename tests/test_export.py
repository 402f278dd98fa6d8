"""Exported programs run without this package and say what the model says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omnivore_jax.inference import onnx_program
from omnivore_jax.inference.programs import Shape, heads_of, write_programs
from omnivore_jax.inference.stablehlo import make_program
from omnivore_jax.inference.trained import open_trained

ROOT = Path(__file__).parents[1]
WEIGHTS = Path(__file__).parent / "before" / "before.safetensors"
ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("omnivore_jax", "flax"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import numpy as np
from jax import export
code, x, out = sys.argv[1:]
np.save(out, export.deserialize(bytearray(open(code, "rb").read())).call(np.load(x)))
"""


def test_programs_run_where_this_package_is_not(tmp_path):
    trained = open_trained(WEIGHTS)
    heads = heads_of(trained, "")
    assert set(heads) == {"image", "rgbd", "video"}
    programs = [make_program(trained, head, Shape(), ["cpu"]) for head in heads]
    assert all(program.difference < 1e-5 for program in programs)
    write_programs(tmp_path / "out", trained, programs)
    write_programs(tmp_path / "out", trained, programs[:1])  # a folder of ours is replaced
    write_programs(tmp_path / "out", trained, programs)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["programs"]["video"]["input"] == ["b", 8, 32, 32, 3]
    assert len(card["classes"]["video"]) == 30
    x = np.random.default_rng(1).normal(size=(5, 8, 32, 32, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    code = tmp_path / "out" / card["programs"]["video"]["file"]
    files = [str(code), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run([sys.executable, "-c", ALONE, *files], check=True, cwd=tmp_path, timeout=120)
    want = np.asarray(trained.model(x, "video"))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), want, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name the weights and a folder"),
        (("none.safetensors", "out"), "none.safetensors"),
        ((WEIGHTS, "out", "--head=audio"), "--head=audio"),
        ((WEIGHTS, "out", "--platforms=abacus"), "--platforms=abacus is not known"),
        ((WEIGHTS, "out", "--head=image", "--platforms=tpu"), "cannot be checked on this machine"),
        ((WEIGHTS, ROOT / "tests", "--head=image"), "is no exported model of ours"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(arguments, words):
    line = [sys.executable, "-m", "omnivore_jax.export", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and words in done.stderr
    assert not (ROOT / "out").exists()


ONNX_ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("omnivore_jax", "jax", "torch"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import numpy as np
import onnxruntime
code, x, out = sys.argv[1:]
session = onnxruntime.InferenceSession(code)
np.save(out, session.run(["logits"], {"x": np.load(x)})[0])
"""


@pytest.mark.slow
def test_onnx_graphs_run_where_neither_this_package_nor_jax_nor_pytorch_is(tmp_path):
    for package in ("torch", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    trained = open_trained(WEIGHTS)
    made = [onnx_program.make_program(trained, head, Shape()) for head in heads_of(trained, "")]
    assert all(program.difference < 1e-5 for program in made) and len(made) == 3
    write_programs(tmp_path / "out", trained, made)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    x = np.random.default_rng(1).normal(size=(5, 1, 32, 32, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    code = tmp_path / "out" / card["programs"]["rgbd"]["file"]
    assert code.suffix == ".onnx"
    files = [str(code), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run([sys.executable, "-c", ONNX_ALONE, *files], check=True, cwd=tmp_path)
    want = np.asarray(trained.model(x, "rgbd"))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), want, atol=1e-5)


def test_without_its_packages_onnx_is_refused_in_one_line(monkeypatch):
    from omnivore_jax.core.errors import UserError
    from omnivore_jax.weights.torch import onnx_export

    monkeypatch.setattr(onnx_export, "NEEDED", ("torch_of_nobody",))
    with pytest.raises(UserError, match="needs torch_of_nobody; pip install -r requirements-torch"):
        onnx_export.check_packages()
