"""Trained weights ready to answer: what their card says of heads, classes and how to feed them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Kind, Mode
from omnivore_jax.data.protocol import PROTOCOLS, DepthConvention, Protocol
from omnivore_jax.eval.predictor import Feed
from omnivore_jax.eval.sliding import Window
from omnivore_jax.model.compiled import CompiledModel
from omnivore_jax.model.heads import class_count, linear_heads
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.model.upernet import UPerNetSpec
from omnivore_jax.tasks.base import Task
from omnivore_jax.tasks.classification import ClassificationTask
from omnivore_jax.tasks.segmentation import SegmentationTask
from omnivore_jax.weights.card import protocols_of, read_card
from omnivore_jax.weights.load import load

DEFAULTS: dict[Kind, str] = {"image": "center_224", "video": "1x1", "rgbd": "center_224_depth"}
"""Protocols of media for which the weights have no head, and so none of their own."""
MAP_VIEWS = ("1x1", *(name for name, protocol in PROTOCOLS.items() if protocol.whole))
"""Names of protocols for heads that label pixels."""


@dataclass(frozen=True)
class TrainedModel:
    """A model, and by head what its card says."""

    path: Path
    model: CompiledModel
    modalities: dict[str, Kind]
    """Of the heads whose modality is known."""
    protocols: dict[str, Protocol]
    preprocessings: dict[str, Preprocessing]

    def head_for(self, kind: Kind, asked: str = "") -> str:
        """Chooses the head for media of a kind; `asked` names another (the paper's pumpkins).

        Raises:
            UserError: there is none, several have this modality, or it does not classify.

        """
        linear = linear_heads(self.model.heads)
        if asked:
            if asked not in self.model.heads:
                raise UserError(
                    f"--head={asked}: {self.path} has the heads {', '.join(self.model.heads)}"
                )
            if asked not in linear:
                raise UserError(f"--head={asked} of {self.path} does not classify; use another")
            return asked
        if not linear:
            heads = ", ".join(self.model.heads) or "none"
            raise UserError(f"{self.path} classifies nothing; its heads: {heads}")
        own = [head for head in linear if self.modalities.get(head) == kind]
        if len(own) == 1:
            return own[0]
        if len(linear) == 1:
            return next(iter(linear))
        what = f"{len(own)} heads" if own else "no head"
        raise UserError(
            f"{self.path} has {what} for {kind}; name one: --head={'|'.join(own or linear)}"
        )

    def map_head(self, asked: str = "") -> str:
        """Chooses the head that labels pixels.

        Raises:
            UserError: there is none, there are several, or the one that is asked for does not.

        """
        own = [n for n, spec in self.model.heads.items() if isinstance(spec, UPerNetSpec)]
        if asked in own or (not asked and len(own) == 1):
            return asked or own[0]
        if asked:
            raise UserError(f"--head={asked}: {self.path} labels pixels with {own or 'no head'}")
        if own:
            raise UserError(f"{self.path} has {len(own)} heads for maps; --head={'|'.join(own)}")
        raise UserError(
            f"{self.path} has no head that labels pixels; train one with task='segmentation', "
            "configs/transfer.py:nyu_seg for example"
        )

    def map_protocol(self, head: str, views: str = "") -> Protocol:
        """Says how pictures are made ready for a head that labels pixels.

        `views`: one of `MAP_VIEWS`; empty: that of the card. Windows that slide have its size.

        Raises:
            UserError: there is no such protocol, or it is not for pictures.

        """
        own = self.protocols.get(head, PROTOCOLS["whole"])
        if not views:
            return own
        if views not in MAP_VIEWS:
            raise UserError(f"--views={views} of label maps; use one of {', '.join(MAP_VIEWS)}")
        if views == "1x1" and own.whole:
            raise UserError(f"--views=1x1: {self.path} does not say the size; use whole")
        named = own if views == "1x1" else PROTOCOLS[views]
        return dataclasses.replace(
            named, size=own.size, interpolation=own.interpolation, depth=own.depth
        )

    def task_of(self, head: str) -> Task:
        """Makes the task by which a head is scored."""
        spec = self.model.heads[head]
        if isinstance(spec, UPerNetSpec):
            return cast(
                Task,
                SegmentationTask(
                    head,
                    spec.classes,
                    channels=spec.channels,
                    auxiliary_channels=spec.auxiliary_channels,
                ),
            )
        return cast(Task, ClassificationTask(head, len(self.classes_of(head))))

    def protocol_for(self, kind: Kind, views: str = "") -> Protocol:
        """Says how media of a kind are made ready, whatever the head that judges them.

        `views` names a protocol whose clips, crops and fusion replace those of the card; frames
        and sizes stay those that the weights were trained with.

        Raises:
            UserError: there is no such protocol, or it does not suit the kind.

        """
        own = self._own_protocol(kind)
        if not views:
            return own
        if views not in PROTOCOLS:
            raise UserError(f"--views={views} is not known; use one of {', '.join(PROTOCOLS)}")
        named = PROTOCOLS[views]
        if (named.frames > 1) != (kind == "video") or named.whole:
            raise UserError(f"--views={views} does not suit {kind}; leave it out for {kind}")
        keys = ("clip", "stride", "clips", "crops", "fusion")
        try:
            return dataclasses.replace(own, **{key: getattr(named, key) for key in keys})
        except ValueError as error:
            raise UserError(f"--views={views} does not suit {self.path}: {error}") from error

    def preprocessing_for(self, kind: Kind, head: str) -> Preprocessing:
        """Gives the statistics of the media's modality; those of the head where it has none."""
        own = self._head_of(kind)
        specs = self.preprocessings
        return specs.get(own or head) or specs.get(head) or Preprocessing()

    def classes_of(self, head: str) -> tuple[str, ...]:
        """Names the classes of a head; numbers where the card has no names."""
        card = self.model.card or {}
        names = card.get("classes", {}).get(head)
        return tuple(names or map(str, range(class_count(self.model.heads[head]))))

    def _head_of(self, kind: Kind) -> str | None:
        linear = linear_heads(self.model.heads)
        heads = (head for head, own in self.modalities.items() if own == kind and head in linear)
        return next(heads, None)

    def _own_protocol(self, kind: Kind) -> Protocol:
        own = self._head_of(kind)
        if own in self.protocols:
            return self.protocols[own]
        default = PROTOCOLS[DEFAULTS[kind]]
        other = next(iter(self.protocols.values()), default)  # for its sizes
        depth = DepthConvention() if kind == "rgbd" else None
        return dataclasses.replace(
            default, size=other.size, short_side=other.short_side, depth=depth
        )


def feed_of(preprocessing: Preprocessing, protocol: Protocol, mode: Mode = "all") -> Feed:
    """Says how samples that a protocol made are given to a model."""
    return Feed(
        preprocessing,
        mode,
        protocol.views,
        protocol.fusion,
        protocol.scales,
        protocol.mirrored,
        Window(protocol.size, protocol.step) if protocol.sliding else None,
    )


def open_trained(path: Path) -> TrainedModel:
    """Opens weights of ours, a run's folder (its best EMA) or a file of PyTorch's.

    Raises:
        UserError: there is no such file, it is damaged, or something of it would be lost.

    """
    return trained_of(path, load(path))


def trained_of(path: Path, model: CompiledModel) -> TrainedModel:
    """Reads what a model's card says of its heads."""
    card = model.card or {}
    inputs = card.get("inputs", {})
    modalities = {head: inputs.get(head, {}).get("modality", head) for head in model.heads}
    return TrainedModel(
        path,
        model,
        {head: kind for head, kind in modalities.items() if kind in DEFAULTS},
        protocols_of(card),
        read_card(card).preprocessing if card else {},
    )
