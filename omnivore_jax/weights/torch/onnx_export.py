"""One head of a model as an ONNX graph, by way of the same model in plain PyTorch."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omnivore_jax.core.errors import UserError
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.weights.torch.certificate import torch_model
from omnivore_jax.weights.torch.state_dict import State

NEEDED = ("torch", "onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "x", "logits"


def check_packages() -> None:
    """Raises UserError where a package is missing that writes or checks the graph."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format=onnx needs {', '.join(missing)}; pip install -r requirements-torch.txt"
        )


def onnx_graph(
    config: ModelConfig, heads: Mapping[str, int], state: State, head: str, sample: Sequence[int]
) -> bytes:
    """Writes (float32 [b, t, h, w, c], standardised) -> logits [b, classes] for any b.

    Raises:
        UserError: PyTorch cannot express the model so.

    """
    import torch  # pyright: ignore[reportMissingImports]

    model = torch_model(state, config, heads)

    class OneHead(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            return self.model(x.movedim(-1, 1), head)

    x = torch.zeros(2, *sample)
    batch = {0: torch.export.Dim("b", min=1)}
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            program: Any = torch.onnx.export(
                OneHead().eval(),
                (x,),
                dynamo=True,
                dynamic_shapes=(batch,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
            path = Path(folder) / "graph.onnx"
            program.save(str(path))
            return path.read_bytes()
    except Exception as error:  # the exporter promises no type
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"head {head!r} cannot be written as ONNX: {reason}") from error


def run_onnx(graph: bytes, x: Any) -> Any:
    """Runs a graph with onnxruntime on the CPU."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: x})[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the exporter has to say about itself from the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
