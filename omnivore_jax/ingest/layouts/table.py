"""The layouts of downloads by the name that `prepare` takes. A new one is a file and a row here."""

from collections.abc import Mapping

from omnivore_jax.ingest.layouts.base import Layout
from omnivore_jax.ingest.layouts.folder import ClassFolders

LAYOUTS: Mapping[str, Layout] = {"folder": ClassFolders()}
