"""A config file, resolved.

The dataclass of every library, built and checked once, before anything is touched.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from omnivore_jax.checkpoint.manager import CheckpointConfig
from omnivore_jax.core import config as builder
from omnivore_jax.core.errors import UserError
from omnivore_jax.data.loader import LoaderConfig
from omnivore_jax.data.mixture import Mixture, Source
from omnivore_jax.data.transforms import DatasetConfig
from omnivore_jax.model.attention.table import NAMES
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.variants import model_config
from omnivore_jax.train.estimate import HardwareConfig
from omnivore_jax.train.loop import TrainConfig
from omnivore_jax.train.mesh import MeshConfig
from omnivore_jax.train.mix import MixConfig
from omnivore_jax.train.optimizer import OptimizerConfig
from omnivore_jax.train.task import TaskConfig, heads
from omnivore_jax.weights.fit import Plan
from omnivore_jax.weights.initial import plan_initial


@dataclass(frozen=True)
class StoreConfig:
    """Where prepared datasets lie and how much damage is borne.

    The keys of `data` that are no dataset.
    """

    root: str = ""
    """Empty: $OMNIVORE_DATA, else data/."""
    bad_budget: float = 0.001
    """Share of a dataset's records that may be damaged before the run stops."""


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
    """Most samples of queries and of a gallery when neighbours across modalities are looked for at the end; 0: off."""

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

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f"every={self.every}; use 1 or more")


@dataclass(frozen=True)
class Settings:
    """All that a run is told."""

    name: str
    init_from: str
    """Weights to start from, a file or the folder of a run; empty: from scratch."""
    position_bias: Literal["auto", "factored", "joint"]
    """As asked for; `model` has what a run from scratch makes of it."""
    model: ModelConfig
    store: StoreConfig
    loader: LoaderConfig
    datasets: dict[str, DatasetConfig]
    tasks: dict[str, TaskConfig]
    train: TrainConfig
    optimizer: OptimizerConfig
    mix: MixConfig
    mesh: MeshConfig
    checkpoint: CheckpointConfig
    eval: EvalConfig
    log: LogConfig
    hardware: HardwareConfig

    @property
    def heads(self) -> dict[str, int]:
        """Number of classes of every head."""
        return heads(self.tasks)

    def plan_initial(self) -> Plan:
        """Opens the weights of `init_from`.

        Raises:
            UserError: they do not fit the model.

        """
        bias, seed = self.position_bias, self.train.seed
        return plan_initial(self.init_from, self.model, self.heads, position_bias=bias, seed=seed)

    def mixture(self, sizes: Mapping[str, int]) -> Mixture:
        """The plan of the run, over datasets of these sizes."""
        sources = tuple(
            Source(name, sizes[name], c.batch_size, c.ratio) for name, c in self.datasets.items()
        )
        mixes = any(task.mixes for task in self.tasks.values())
        return Mixture(
            sources,
            epochs=self.train.epochs,
            steps=self.train.steps,
            seed=self.train.seed,
            batching=self.train.batching,
            batch_size=self.train.batch_size,
            quantum=self.mix.group if mixes else 1,
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
    store, loader, datasets, tasks = _data(config.get("data", {}))
    built = {key: builder.build(cls, config.get(key, {}), key) for key, cls in SECTIONS.items()}
    settings = Settings(
        name=config["name"],
        init_from=str(config.get("init_from") or ""),
        position_bias=config.get("model", {}).get("position_bias") or "auto",
        model=_model(config.get("model", {}), config.get("attention", {})),
        store=store,
        loader=loader,
        datasets=datasets,
        tasks=tasks,
        **built,
    )
    _check(settings)
    return settings


def _data(section: Mapping[str, Any]):
    """Splits `data` into its own keys and one subsection a dataset, which holds the keys of two libraries."""
    rows = {name: row for name, row in section.items() if isinstance(row, Mapping)}
    own = {key: value for key, value in section.items() if key not in rows}
    store, loader = builder.build_all((StoreConfig, LoaderConfig), own, "data")
    if not rows:
        raise builder.ConfigError("data names no dataset; add one, data.imagenet for example")
    both = {
        n: builder.build_all((DatasetConfig, TaskConfig), row, f"data.{n}")
        for n, row in rows.items()
    }
    return (
        store,
        loader,
        {n: pair[0] for n, pair in both.items()},
        {n: pair[1] for n, pair in both.items()},
    )


def _model(section: Mapping[str, Any], attention: Mapping[str, Any]) -> ModelConfig:
    """A variant with the fields that the config changes."""
    changes = {key: value for key, value in section.items() if key != "name" and value is not None}
    if changes.get("position_bias") == "auto":
        changes["position_bias"] = (
            "factored"  # the paper's; weights that a run starts from decide for themselves
        )
    if "backend" in attention:
        changes["attention_backend"] = attention["backend"]
    if set(attention) - {"backend"}:
        raise builder.ConfigError(
            f"attention.{min(set(attention) - {'backend'})} is not a known key; known: backend"
        )
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    for key in changes:
        if key not in names:
            raise builder.ConfigError(
                f"model.{key} is not a known key; known keys: {', '.join(sorted(names))}"
            )
    variant = dataclasses.asdict(model_config(section.get("name", "")))
    return builder.build(ModelConfig, variant | changes, "model")


def _check(settings: Settings) -> None:
    heads(settings.tasks)
    backend = settings.model.attention_backend
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
