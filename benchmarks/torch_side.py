"""The sides of a comparison that are PyTorch: our model exported for it, and those of others.

`torch` is the folder that `convert to-torch` writes; its attention is
`F.scaled_dot_product_attention` with bias and shift mask as its mask. `torchvision` and `timm` are
their own code with our parameters put in under their names: 2-D models, which see a picture, and
torchvision's 3-D one, which sees clips.
"""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.job import (
    DECAY,
    EMA,
    HUB,
    RATE,
    SMOOTHING,
    SPEC,
    Job,
    draw_batch,
    standardised,
    statistics_of,
)

COMPILED = "-compile"
"""Ends the names of sides that torch.compile compiles."""


class TorchSide:
    """A model in PyTorch in this process."""

    versions = {"torch": torch.__version__}

    def __init__(self, job: Job):
        self._job = job
        torch.set_num_threads(job.threads)
        library = job.side.removesuffix(COMPILED)
        self._pictures = library != "torch" and job.kind == "image"  # a model without time
        if job.mode == "train":
            batch = draw_batch(job)
            self._rgb, self._label = torch.from_numpy(batch.rgb), torch.from_numpy(batch.label)
            self._disparity = None
            if batch.disparity is not None:
                self._disparity = torch.from_numpy(batch.disparity)
            self._label = self._label.long()
        else:
            self._x = torch.from_numpy(standardised(job)).movedim(-1, 1).contiguous()

    def build(self) -> None:
        """Reads the weights."""
        job, folder = self._job, Path(self._job.folder) / HUB
        library = job.side.removesuffix(COMPILED)
        if library == "torch":
            card = json.loads((folder / "card.json").read_text())
            module = torch.hub.load(str(folder), card["model"]["name"], source="local")
            self._model: Callable = lambda x: module(x, job.kind)
        else:
            from benchmarks.peers import make_peer  # needs the library

            module = make_peer(library, job, folder)
            self._model = module
        if job.mode == "train":
            self._prepare_training(module)
        if job.side.endswith(COMPILED):
            self._model = torch.compile(self._model)

    def _prepare_training(self, module: torch.nn.Module) -> None:
        parameters = dict(module.named_parameters())
        plain = [p for p in parameters.values() if p.ndim == 1]
        plain += [p for name, p in parameters.items() if name.endswith("bias_table")]
        chosen = {id(p) for p in plain}
        kernels = [p for p in parameters.values() if id(p) not in chosen]
        groups = [{"params": kernels}, {"params": plain, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=DECAY, fused=True)
        self._parameters = list(parameters.values())
        self._average = [p.detach().clone() for p in self._parameters]

    def call(self) -> list[float]:
        """Scores the samples, or trains on them once: logits, or loss and norm of the gradient."""
        if self._job.mode == "train":
            return self._train()
        with torch.inference_mode(), self._precision():
            return self._scores(self._x).float().flatten().tolist()

    def _scores(self, x: torch.Tensor) -> torch.Tensor:
        return self._model(x[:, :, 0] if self._pictures else x)

    def _train(self) -> list[float]:
        self._optimizer.zero_grad(set_to_none=True)
        with self._precision():
            scores = self._scores(self._standardised()).float()
        loss = F.cross_entropy(scores, self._label, label_smoothing=SMOOTHING)
        loss.backward()
        grads = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self._parameters, 1 - EMA)
        return [loss.item(), norm.item()]

    def _standardised(self) -> torch.Tensor:
        """What the step of ours does first: bytes to what the model takes."""
        mean, std = (torch.tensor(row) for row in statistics_of(self._job))
        x = self._rgb.float() / 255
        if self._disparity is not None:
            x = torch.cat([x, self._disparity / SPEC.disparity_max], -1)
        return ((x - mean) / std).movedim(-1, 1)

    def _precision(self) -> Any:
        if self._job.dtype == "bfloat16":
            return torch.autocast("cpu", torch.bfloat16)
        return nullcontext()

    def matmul(self, n: int) -> float:
        """Measures the FLOPs a second of a product of two n x n matrices."""
        x = torch.randn(n, n, dtype=getattr(torch, self._job.dtype))
        torch.mm(x, x)
        began = time.perf_counter()
        torch.mm(x, x)
        return 2 * n**3 / (time.perf_counter() - began)
