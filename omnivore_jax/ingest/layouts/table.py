"""The layouts of downloads by the name that `prepare` takes. A new one is a file and a row here."""

from collections.abc import Mapping

from omnivore_jax.ingest.layouts.base import Layout
from omnivore_jax.ingest.layouts.epic import EpicKitchens
from omnivore_jax.ingest.layouts.folder import ClassFolders
from omnivore_jax.ingest.layouts.imagenet import ImageNet
from omnivore_jax.ingest.layouts.imagenet21k import ImageNet21K
from omnivore_jax.ingest.layouts.inat2018 import INat2018
from omnivore_jax.ingest.layouts.kinetics import Kinetics
from omnivore_jax.ingest.layouts.nyu import NyuScenes, NyuSegmentation
from omnivore_jax.ingest.layouts.own_table import OwnTable
from omnivore_jax.ingest.layouts.pets import Pets
from omnivore_jax.ingest.layouts.places365 import Places365
from omnivore_jax.ingest.layouts.ssv2 import SomethingSomething
from omnivore_jax.ingest.layouts.sunrgbd import SunRgbd
from omnivore_jax.ingest.layouts.ucf101 import Ucf101

LAYOUTS: Mapping[str, Layout] = {
    "folder": ClassFolders(),
    "manifest": OwnTable(),
    "imagenet": ImageNet(),
    "imagenet21k": ImageNet21K(),
    "kinetics400": Kinetics(),
    "kinetics600": Kinetics(),
    "sunrgbd": SunRgbd(),
    "inat2018": INat2018(),
    "pets": Pets(),
    "places365": Places365(),
    "ssv2": SomethingSomething(),
    "epic100": EpicKitchens(),
    "ucf101": Ucf101(),
    "nyu_scenes": NyuScenes(),
    "nyu_seg": NyuSegmentation(),
}
