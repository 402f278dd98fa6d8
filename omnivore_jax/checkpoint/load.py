"""Opens a trained model for use."""

from pathlib import Path

from omnivore_jax.checkpoint.card import read_card
from omnivore_jax.checkpoint.manager import CheckpointManager
from omnivore_jax.core.command import UserError
from omnivore_jax.model.functional import abstract_model, merge
from omnivore_jax.model.omnivore import Omnivore


def load(path: str | Path) -> Omnivore:
    """Opens the EMA of a run's best checkpoint (the newest one where none was scored); `path` is the run's folder.

    Raises:
        UserError: there is no such folder, or no undamaged checkpoint in it.

    """
    checkpoints = Path(path) / "checkpoints"
    if not checkpoints.is_dir():
        raise UserError(f"{path} holds no checkpoints/; give the folder of a run")
    with CheckpointManager(checkpoints, read_only=True) as manager:
        step = manager.best_step()
        step = manager.latest_good_step() if step is None else step
        if step is None:
            raise UserError(f"{checkpoints} has no finished checkpoint; train first")
        model, heads, _ = read_card(manager.metadata(step)["card"])
        graphdef, params = abstract_model(model, heads)
        restored = manager.restore_part({"ema": params}, step)
    return merge(graphdef, restored.state["ema"])
