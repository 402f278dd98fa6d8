"""The layouts of downloads by the name that `prepare` takes. A new one is a file and a row here."""

from collections.abc import Mapping

from omnivore_jax.ingest.layouts.base import Layout
from omnivore_jax.ingest.layouts.epic import EpicKitchens
from omnivore_jax.ingest.layouts.folder import ClassFolders
from omnivore_jax.ingest.layouts.kinetics import Kinetics
from omnivore_jax.ingest.layouts.ssv2 import SomethingSomething
from omnivore_jax.ingest.layouts.ucf101 import Ucf101

LAYOUTS: Mapping[str, Layout] = {
    "folder": ClassFolders(),
    "kinetics400": Kinetics(),
    "kinetics600": Kinetics(),
    "ssv2": SomethingSomething(),
    "epic100": EpicKitchens(),
    "ucf101": Ucf101(),
}
