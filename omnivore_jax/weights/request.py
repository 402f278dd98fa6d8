"""What a conversion is asked for; the flags of the command are made from these fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from omnivore_jax.core.types import Size
from omnivore_jax.model.config import DepthEmbed


def option(default: Any, text: str) -> Any:
    """Declares a field that is a flag, too; `text` is its line of --help."""
    if default == {}:
        return field(default_factory=dict, metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Request:
    """How weights are read and what is made of them; by default the file's own model."""

    variant: str | None = option(
        None, "Model that the file must be; its shapes tell, and this is checked."
    )
    prefix: str | None = option(
        None, "Which model to take from a file that holds several: how its keys begin."
    )
    heads: Sequence[str] | None = option(
        None, "Heads of the result: NAME keeps, NEW=OLD renames, NAME:CLASSES may be fresh."
    )
    classes: Mapping[str, str] = option(
        {}, "HEAD=FILE, HEAD=timm or HEAD=torchvision: names of its classes."
    )
    window: Size | None = option(None, "Window t,h,w of the result; tables are resized.")
    source_window: Size | None = option(
        None, "Window t,h,w of the file, where its tables fit several or none."
    )
    position_bias: Literal["joint", "factored"] | None = option(
        None, "Form of the position bias of the result."
    )
    depth_embed: DepthEmbed | None = option(None, "How the result embeds depth.")
    allow_missing: tuple[str, ...] = option((), "Patterns of parameters that may be drawn afresh.")
    allow_unused: tuple[str, ...] = option((), "Patterns of the file's keys that may be left out.")
    allow_lossy: bool = option(
        False, "Make factored tables out of joint ones, as near as they come."
    )
    keep_image: bool = option(False, "With --allow-lossy: keep the bias within a frame exactly.")
    allow_nonfinite: bool = option(False, "Convert weights that hold NaN or infinity.")
    licence: str | None = option(None, "Licence of the weights, where the card should say another.")
    seed: int = option(0, "Of what is drawn afresh.")
    raw: bool = option(False, "Of a run, the parameters themselves instead of their EMA.")
    certificate: bool = option(True, "Compare the result with PyTorch's, where that is installed.")
    certify: bool = option(False, "Fail where outputs differ from PyTorch's.")

    @property
    def weights(self) -> Literal["ema", "params"]:
        """Which weights of a run are taken."""
        return "params" if self.raw else "ema"
