"""A config file, resolved.

The dataclass of every library, built and checked once, before anything is touched.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jax.sharding import Mesh

from omnivore_jax.checkpoint.manager import CheckpointConfig
from omnivore_jax.core import config as builder
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local, location
from omnivore_jax.core.profiler import parse_span
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import data_root
from omnivore_jax.data.loader import LoaderConfig
from omnivore_jax.data.mixture import Mixture, Source
from omnivore_jax.model import cost
from omnivore_jax.model.attention.table import NAMES
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.model.variants import DROP_PATH, model_config
from omnivore_jax.tasks.base import Task, heads
from omnivore_jax.tasks.table import TASKS
from omnivore_jax.train.estimate import HardwareConfig
from omnivore_jax.train.loop import TrainConfig
from omnivore_jax.train.mesh import MeshConfig
from omnivore_jax.train.mix import MixConfig
from omnivore_jax.train.optimizer import OptimizerConfig
from omnivore_jax.train.recipe import Recipe, TrainDataset
from omnivore_jax.train.step import Trainer
from omnivore_jax.weights.fit import Plan
from omnivore_jax.weights.initial import plan_initial

RUN = ("dtype", "scan", "drop_path", "dropout")
"""Keys of `model` that say how it is run, not what it is."""


@dataclass(frozen=True)
class StoreConfig:
    """Where prepared datasets lie and how much damage is borne.

    The keys of `data` that are no dataset.
    """

    root: str = ""
    """Empty: $OMNIVORE_DATA, else data/."""
    bad_budget: float = 0.001
    """Share of a dataset's records that may be damaged before the run stops."""
    check_val: bool = True
    """Whether validation splits are read once before training, to find what is damaged."""


@dataclass(frozen=True)
class EvalConfig:
    """When to evaluate during training: the section `eval`."""

    every: int = 0
    """Steps between two evaluations; 0: at the end alone."""
    batch_size: int = 256
    """At most, over all devices, and of each device no more than `microbatch`.

    A result does not depend on it.
    """
    retrieval: int = 6000
    """Most queries, and samples of a gallery, of the search across modalities; 0: off."""

    def __post_init__(self):
        if self.every < 0:
            raise ValueError(f"every={self.every}; use a number of steps, or 0 for the end alone")
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}; use 1 or more")
        if self.retrieval < 0:
            raise ValueError(f"retrieval={self.retrieval}; use a number of samples, or 0 for off")


@dataclass(frozen=True)
class LogConfig:
    """What is shown while training: the section `log`."""

    every: int = 50
    """Steps between two lines where there is no terminal."""
    tensorboard: bool = True
    compile_cache: str = ""
    """Folder of compiled programs; empty: ~/.cache/omnivore_jax/jax, "off": none."""
    profile: str = ""
    """Updates that are traced, "100:105" for example (profiler.py); SIGUSR1 traces the next 5."""
    hang_minutes: float = 30.0
    """Without a step after which the stacks of all threads are written to stderr; 0: never."""

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f"every={self.every}; use 1 or more")
        if self.hang_minutes < 0:
            raise ValueError(f"hang_minutes={self.hang_minutes}; use 0 or more")
        parse_span(self.profile)


@dataclass(frozen=True)
class Settings:
    """All that a run is told."""

    name: str
    init_from: str
    """Weights to start from, a file or the folder of a run; empty: from scratch."""
    position_bias: Literal["auto", "factored", "joint"]
    """As asked for; `model` has what a run from scratch makes of it."""
    model: ModelConfig
    compute: Compute
    store: StoreConfig
    loader: LoaderConfig
    datasets: dict[str, DatasetConfig]
    """What the host does with each dataset."""
    training: dict[str, TrainDataset]
    """What the device does with each dataset."""
    train: TrainConfig
    optimizer: OptimizerConfig
    mix: MixConfig
    mesh: MeshConfig
    checkpoint: CheckpointConfig
    eval: EvalConfig
    log: LogConfig
    hardware: HardwareConfig

    @property
    def tasks(self) -> dict[str, Task]:
        """The task of every dataset."""
        return {name: dataset.task for name, dataset in self.training.items()}

    @property
    def heads(self) -> dict[str, Any]:
        """What every head is made of: the number of classes of a linear one."""
        return heads(self.tasks)

    def plan_initial(self) -> Plan:
        """Opens the weights of `init_from`.

        Raises:
            UserError: they do not fit the model.

        """
        bias, seed = self.position_bias, self.train.seed
        return plan_initial(self.init_from, self.model, self.heads, position_bias=bias, seed=seed)

    def input_size(self, name: str) -> tuple[tuple[int, int, int], int]:
        """Gives what the model sees of a sample: frames, rows and columns, and channels."""
        dataset = self.datasets[name]
        size = dataset.frames, dataset.size, dataset.size
        return size, 4 if dataset.kind == "rgbd" else 3

    def forward_flops(self, name: str) -> int:
        """Counts the FLOPs of one sample of a dataset, forward."""
        spec = self.training[name].task.spec
        return cost.flops(self.model, *self.input_size(name), spec)

    def mixture(self, sizes: Mapping[str, int]) -> Mixture:
        """The plan of the run, over datasets of these sizes."""
        sources = tuple(
            Source(name, sizes[name], c.batch_size, c.ratio) for name, c in self.datasets.items()
        )
        mixes = any(dataset.mixes for dataset in self.training.values())
        return Mixture(
            sources,
            epochs=self.train.epochs,
            steps=self.train.steps,
            seed=self.train.seed,
            batching=self.train.batching,
            batch_size=self.train.batch_size,
            quantum=2 if mixes else 1,  # partners stay together
        )

    def trainer(self, mesh: Mesh, total_steps: int) -> Trainer:
        """What stays the same over all steps of the run."""
        return Trainer(
            self.model,
            self.compute,
            self.training,
            self.optimizer,
            self.mix,
            mesh,
            total_steps,
            self.train.seed,
        )


SECTIONS = {
    "train": TrainConfig,
    "optimizer": OptimizerConfig,
    "mix": MixConfig,
    "mesh": MeshConfig,
    "checkpoint": CheckpointConfig,
    "eval": EvalConfig,
    "log": LogConfig,
    "hardware": HardwareConfig,
}
OTHER_KEYS = ("name", "init_from", "model", "attention", "data")


def resolve(config: Mapping[str, Any]) -> Settings:
    """Builds and checks the settings of a config; touches no data and no device.

    Raises:
        UserError: names the key, the value and the remedy.

    """
    try:
        return _resolve(config)
    except ValueError as error:
        raise UserError(str(error)) from error


def _resolve(config: Mapping[str, Any]) -> Settings:
    known = dict.fromkeys([*SECTIONS, *OTHER_KEYS])
    for key in config:
        if key not in known:
            raise builder.ConfigError(
                f"config.{key} is not a known section; known: {', '.join(known)}"
            )
    if not str(config.get("name", "")):
        raise builder.ConfigError("config.name is missing; name the run")
    store, loader, datasets, training = _data(config.get("data", {}))
    built = {key: builder.build(cls, config.get(key, {}), key) for key, cls in SECTIONS.items()}
    model, compute = _model(config.get("model", {}), config.get("attention", {}))
    settings = Settings(
        name=config["name"],
        init_from=str(config.get("init_from") or ""),
        position_bias=config.get("model", {}).get("position_bias") or "auto",
        model=model,
        compute=compute,
        store=store,
        loader=loader,
        datasets=datasets,
        training=training,
        **built,
    )
    _check(settings)
    return settings


def _data(section: Mapping[str, Any]):
    """Splits `data` into its own keys and one subsection a dataset."""
    rows = {name: row for name, row in section.items() if isinstance(row, Mapping)}
    own = {key: value for key, value in section.items() if key not in rows}
    store, loader = builder.build_all((StoreConfig, LoaderConfig), own, "data")
    if not rows:
        raise builder.ConfigError("data names no dataset; add one, data.imagenet for example")
    datasets, training = {}, {}
    for name, row in rows.items():
        datasets[name], training[name] = _dataset(name, row)
    return store, loader, datasets, training


def _dataset(name: str, row: Mapping[str, Any]) -> tuple[DatasetConfig, TrainDataset]:
    """Builds the dataclasses whose keys a dataset's row holds side by side."""
    kind = row.get("task", "classification")
    if kind not in TASKS:
        raise builder.ConfigError(f"data.{name}.task={kind!r}; use one of {', '.join(TASKS)}")
    keys = {key: value for key, value in row.items() if key != "task"}
    classes = (DatasetConfig, TASKS[kind], Recipe, Preprocessing)
    host, *device = builder.build_all(classes, keys, f"data.{name}")
    return host, TrainDataset(*device)


def _model(section: Mapping[str, Any], attention: Mapping[str, Any]) -> tuple[ModelConfig, Compute]:
    """A variant with the fields that the config changes, and how it is run."""
    changes = {key: v for key, v in section.items() if key != "name" and v is not None}
    if changes.get("position_bias") == "auto":
        # The paper's; weights that a run starts from decide for themselves.
        changes["position_bias"] = "factored"
    unknown = sorted(set(attention) - {"backend"})
    if unknown:
        raise builder.ConfigError(f"attention.{unknown[0]} is not a known key; known: backend")
    variant = model_config(section.get("name", ""))
    keys = dataclasses.asdict(variant) | changes
    run = {"drop_path": DROP_PATH.get(variant.name, 0.0)}
    run |= {key: keys.pop(key) for key in RUN if key in keys}
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    for key in keys:
        if key not in known:
            names = ", ".join(sorted(known | set(RUN)))
            raise builder.ConfigError(f"model.{key} is not a known key; known keys: {names}")
    model = builder.build(ModelConfig, keys, "model")
    compute = builder.build(Compute, run, "model")
    return model, dataclasses.replace(compute, attention=attention.get("backend", "auto"))


def _check(settings: Settings) -> None:
    location(settings.init_from, "init_from")
    data_root(settings.store.root)
    check_local(settings.log.compile_cache, "log.compile_cache")
    heads(settings.tasks)
    for name, task in settings.tasks.items():
        _check_labels(name, task, settings.datasets[name])
    backend = settings.compute.attention
    if backend not in NAMES:
        raise builder.ConfigError(
            f"attention.backend={backend!r} is not known; use one of {', '.join(NAMES)}"
        )
    if settings.model.depth_embed == "none":
        for name, dataset in settings.datasets.items():
            if dataset.kind == "rgbd":
                raise builder.ConfigError(
                    f"model.depth_embed='none', but data.{name} has depth; use 'summed'"
                )


def _check_labels(name: str, task: Task, config: DatasetConfig) -> None:
    """Refuses what does not go with label maps, and whole pictures where there are none."""
    if task.labels == "class":
        if config.scores_whole:
            raise builder.ConfigError(
                f"data.{name}.views={config.views!r} is for label maps; use task='segmentation'"
            )
        return
    if config.kind == "video":
        raise builder.ConfigError(
            f"data.{name}.kind='video'; task='segmentation' labels the pixels of pictures"
        )
    if config.rand_augment:
        raise builder.ConfigError(
            f"data.{name}.rand_augment={config.rand_augment!r}; it would not move the label maps, "
            "use crop='scaled'"
        )
