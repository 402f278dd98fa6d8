"""Writes a model as programs that run without this package.

    python -m omnivore_jax.export F OUT [--format=stablehlo|onnx] [--head=H] [--frames=T] [--size=S]
        [--platforms=cpu,cuda,tpu]

F is a file of weights or the folder of a run. OUT becomes a folder with one program a head, which
takes float32 [b, t, h, w, 3 or 4] with any b, and card.json: classes, statistics, shapes,
differences. HEAD.stablehlo needs only JAX (`jax.export.deserialize`), HEAD.onnx only onnxruntime;
to write ONNX takes requirements-torch.txt. Every program is run beside the model before anything is
written. For PyTorch see `convert to-torch`.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local, location

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

FORMAT = flags.DEFINE_enum("format", "stablehlo", ["stablehlo", "onnx"], "What is written.")
HEAD = flags.DEFINE_string("head", "", "The one head to export; by default all.")
FRAMES = flags.DEFINE_integer("frames", 0, "Of a clip; 0: as trained.", lower_bound=0)
SIZE = flags.DEFINE_integer("size", 0, "Height and width; 0: as trained.", lower_bound=0)
RUNS_ON = flags.DEFINE_list(
    "platforms", None, f"Where programs run, of {', '.join(PLATFORMS)}; default: this machine's."
)


def main(argv: Sequence[str]) -> int:
    if len(argv) != 3:
        raise UserError(f"{len(argv) - 1} paths given; name the weights and a folder: F OUT")
    weights = location(argv[1], "F")
    check_local(argv[2], "OUT")
    for platform in RUNS_ON.value or ():
        if platform not in PLATFORMS:
            raise UserError(f"--platforms={platform} is not known; use {', '.join(PLATFORMS)}")
    if FORMAT.value == "onnx":
        from omnivore_jax.weights.torch.onnx_export import check_packages

        if RUNS_ON.value:
            raise UserError("--platforms is of StableHLO; leave it out for --format=onnx")
        check_packages()
    # seconds of imports that --help and mistakes need not wait for
    import jax

    from omnivore_jax.inference import onnx_program, programs, stablehlo
    from omnivore_jax.inference.trained import open_trained

    trained, out = open_trained(weights), Path(argv[2])
    platforms = RUNS_ON.value or [jax.default_backend().replace("gpu", "cuda")]
    shape = programs.Shape(FRAMES.value, SIZE.value)
    made = []
    for head in programs.heads_of(trained, HEAD.value):
        if FORMAT.value == "onnx":
            program = onnx_program.make_program(trained, head, shape)
        else:
            program = stablehlo.make_program(trained, head, shape, platforms)
        t, h, w, c = program.shape
        print(
            f"{head}: [b, {t}, {h}, {w}, {c}], {len(program.code) / 1e6:.1f} MB, differs by "
            f"{program.difference:.1e} of the largest output",
            flush=True,
        )
        made.append(program)
    programs.write_programs(out, trained, made)
    print(out)
    return 0


if __name__ == "__main__":
    run(main)
