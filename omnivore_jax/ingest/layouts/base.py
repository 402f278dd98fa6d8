"""What a layout of downloads tells: which samples there are and how to get at their bytes.

Preparation knows no more than this, so a layout may keep media in files, archives or long videos.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from omnivore_jax.core.types import LabelForm
from omnivore_jax.data.depth import BASELINES, Intrinsics
from omnivore_jax.data.manifest import Kind

Convention = Literal["released", "metric"]
"""What depth is: the released pipeline's, 8 times the metres, or metres (FACTS 8)."""


@runtime_checkable
class Media(Protocol):
    """One encoded picture, depth map or clip, wherever its bytes come from.

    Files and members of a tar are here. An array of an HDF5 file encodes its values in `read`, a
    time span of a long video cuts it out; both then need nothing else in the package.
    """

    @property
    def name(self) -> str:
        """Says in a message where the bytes are."""
        ...

    def read(self) -> bytes:
        """Reads all bytes; OSError where they are not there."""
        ...

    def size(self) -> int:
        """Counts the bytes that are there now, without reading them; 0 where there are none."""
        ...


class FileBytes(NamedTuple):
    """A file of its own (Media)."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        return self.path.read_bytes()

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


class TarMember(NamedTuple):
    """A span of an archive that is not compressed, `TarInfo.offset_data` and `.size` (Media)."""

    path: Path
    offset: int
    length: int

    @property
    def name(self) -> str:
        return f"{self.path} at byte {self.offset}"

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.length)
        if len(data) < self.length:
            raise OSError(f"{self.name} is cut short: {len(data)} of {self.length} bytes")
        return data

    def size(self) -> int:
        # What is there, not what the archive claims: a copy that was ended later is told by it.
        there = self.path.stat().st_size - self.offset if self.path.exists() else 0
        return min(max(there, 0), self.length)


class NoMedia(NamedTuple):
    """A sample that a list names and that cannot be used (Media): it is left out and named."""

    path: Path
    reason: str

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        raise OSError(self.reason)

    def size(self) -> int:
        return 0


class DepthMap(NamedTuple):
    """The depth map of a picture: a 16-bit PNG, and what turns its values into disparity."""

    media: Media
    intrinsics: Intrinsics
    bits_rotated: bool = False
    """Whether the file has its bits rotated (SUN RGB-D), even where it is read as it stands."""


class Item(NamedTuple):
    """A sample that is to be stored."""

    id: str
    label: int
    media: Media
    depth: DepthMap | None = None
    edits: tuple[str | float, ...] = ()
    """What becomes of the file before it is stored: a shard that was made otherwise is made anew.

    The seconds that are cut out of a video, the size to which it is brought; nothing: as it is.
    """
    label_map: Media | None = None
    """An 8-bit grey PNG: a class for every pixel, 255 for none; `label` is 0 then."""


@dataclass(frozen=True)
class Listing:
    """The samples of a download.

    `item` makes a sample of its id when its shard is due: a listing of 14 million keeps names only.
    """

    kind: Kind
    classes: tuple[str, ...]
    """Names, in the order of the labels."""
    splits: Mapping[str, Sequence[str]]
    """Ids of every split, each once, in the order in which they are stored."""
    item: Callable[[str], Item]
    ignored: Counter[str]
    """Files that are no samples, by suffix."""
    missing: Sequence[str] = ()
    """Samples that a list of the download names and whose files are not there, in its order."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen where a download can be read in several ways; the manifest keeps it."""
    labels: LabelForm = "class"


@dataclass(frozen=True)
class LayoutOptions:
    """What a user may ask of a layout."""

    kind: str = "auto"
    """The kind of file to take; "auto" for what there is."""
    val: float = 0.0
    """The share of every class that becomes the validation split, where there is none."""
    intrinsics: Intrinsics = Intrinsics(0.0, BASELINES["kv2"], 0.001)
    """Of depth maps of which no file says them; fx 0 is unknown."""
    max_missing: float = 0.2
    """The share of the samples in the lists of a download whose files may not be there."""
    fold: int = 1
    """The split, where a dataset has several."""
    convention: Convention | None = None
    """What the depth of a dataset is that can be read in two ways; None: its usual one."""
    raw_depth: bool = False
    """Whether to take the depth maps as the sensor gave them, where others are there too."""


@runtime_checkable
class Layout(Protocol):
    """Knows how the files of a download are laid out."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        """Lists the samples in the folder `source`, alike on every machine.

        Raises:
            UserError: the folder does not hold this layout, or an option does not fit it.

        """
        ...
