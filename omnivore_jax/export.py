"""Writes a model as programs that run without this package.

    python -m omnivore_jax.export F OUT [--format=stablehlo] [--head=H] [--frames=T] [--size=S]
        [--platforms=cpu,cuda,tpu]

F is a file of weights of ours or the folder of a run. OUT becomes a folder with one program a head,
HEAD.stablehlo, which takes float32 [b, t, h, w, 3 or 4] with any b and needs only JAX
(`jax.export.deserialize`), and card.json: classes, statistics, shapes, differences. Every program
is run beside the model before anything is written. For PyTorch see `convert to-torch`.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

FORMAT = flags.DEFINE_enum("format", "stablehlo", ["stablehlo"], "What is written.")
HEAD = flags.DEFINE_string("head", "", "The one head to export; by default all.")
FRAMES = flags.DEFINE_integer("frames", 0, "Of a clip; 0: as trained.", lower_bound=0)
SIZE = flags.DEFINE_integer("size", 0, "Height and width; 0: as trained.", lower_bound=0)
RUNS_ON = flags.DEFINE_list(
    "platforms", None, f"Where programs run, of {', '.join(PLATFORMS)}; default: this machine's."
)


def main(argv: Sequence[str]) -> int:
    if len(argv) != 3:
        raise UserError(f"{len(argv) - 1} paths given; name the weights and a folder: F OUT")
    for name, path in zip(("F", "OUT"), argv[1:], strict=True):
        check_local(path, name)
    for platform in RUNS_ON.value or ():
        if platform not in PLATFORMS:
            raise UserError(f"--platforms={platform} is not known; use {', '.join(PLATFORMS)}")
    # seconds of imports that --help and mistakes need not wait for
    import jax

    from omnivore_jax.inference import stablehlo
    from omnivore_jax.inference.trained import open_trained

    trained, out = open_trained(Path(argv[1])), Path(argv[2])
    platforms = RUNS_ON.value or [jax.default_backend().replace("gpu", "cuda")]
    shape = stablehlo.Shape(FRAMES.value, SIZE.value)
    programs = []
    for head in stablehlo.heads_of(trained, HEAD.value):
        program = stablehlo.make_program(trained, head, shape, platforms)
        t, h, w, c = program.shape
        print(
            f"{head}: [b, {t}, {h}, {w}, {c}], {len(program.code) / 1e6:.1f} MB, differs by "
            f"{program.difference:.1e} of the largest output",
            flush=True,
        )
        programs.append(program)
    stablehlo.write_programs(out, trained, programs)
    print(out)
    return 0


if __name__ == "__main__":
    run(main)
