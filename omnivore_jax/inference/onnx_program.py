"""Models as ONNX graphs: one file a head, for onnxruntime and what else reads ONNX.

    session = onnxruntime.InferenceSession("image.onnx")
    logits = session.run(["logits"], {"x": x})[0]

x is float32 [b, t, h, w, 3 or 4], standardised as card.json says, with any b.
"""

from functools import partial

import numpy as np

from omnivore_jax.core.tree import flatten
from omnivore_jax.inference.programs import Program, Shape, check_program, sample_of
from omnivore_jax.inference.trained import TrainedModel
from omnivore_jax.model.heads import linear_heads
from omnivore_jax.weights.lazy import lazy
from omnivore_jax.weights.torch.onnx_export import onnx_graph, run_onnx
from omnivore_jax.weights.torch.state_dict import torch_state


def make_program(trained: TrainedModel, head: str, shape: Shape) -> Program:
    """Exports one head and checks it against the model.

    Raises:
        UserError: the head has no modality, PyTorch cannot express it, or the graph differs.

    """
    kind, sample = sample_of(trained, head, shape)
    model, linear = trained.model, linear_heads(trained.model.heads)
    arrays = {
        path: lazy(np.asarray(leaf))
        for path, leaf in flatten(model.params).items()
        if path.startswith("trunk.") or path.split(".")[1] in linear
    }
    graph = onnx_graph(model.config, linear, torch_state(arrays), head, sample)
    difference = check_program(trained, head, sample, partial(run_onnx, graph))
    return Program(head, kind, sample, graph, difference, "onnx")
