"""How fast a config trains on this machine, and whether the data keeps up.

    python -m omnivore_jax.bench --config=configs/swin_t.py [--steps=10] [--json]
        [--config.data.imagenet.batch_size=32 ...]

Every step of the run is compiled and timed on random samples that lie on the device: seconds,
samples a second, MFU, memory. Where the data is there, its loader is timed alone. It needs no
workdir and leaves nothing behind but compiled programs in the cache.
"""

import json
from collections.abc import Sequence

from absl import flags

from omnivore_jax.core import command, config_file, options
from omnivore_jax.core.errors import UserError

CONFIG = config_file.define_flag()
STEPS = flags.DEFINE_integer("steps", 10, "That are timed, of every kind.", lower_bound=1)
JSON = options.json()


def main(argv: Sequence[str]) -> int:
    if len(argv) > 1:
        raise UserError(f"{argv[1]!r} is not a flag; flags begin with -- (see --help)")
    if CONFIG.value is None:
        raise UserError("--config is missing; name one, --config=configs/demo.py for example")
    from omnivore_jax.experiment import speed  # seconds of imports that mistakes need not wait for

    told = speed.measure(CONFIG.value.to_dict(), STEPS.value)
    print(json.dumps(told, indent=2) if JSON.value else speed.render(told))
    return 0


if __name__ == "__main__":
    command.run(main)
