"""How tests compile: they compile much and compute little.

On one gradient of the golden model: 7.6 core-seconds of compilation by default, 3.3 unoptimized,
1.1 without the fusion emitters (MLIR), .9 in one part.
"""

from importlib.metadata import version

# XLA ends the process at a flag that it does not know; 0.11 has the emitters alone.
EMITTERS = "--xla_cpu_use_fusion_emitters=false "
HAS_EMITTERS_ALONE = tuple(map(int, version("jaxlib").split(".")[:2])) >= (0, 11)
FLAGS = (
    "--xla_backend_optimization_level=0 "
    f"{'' if HAS_EMITTERS_ALONE else EMITTERS}--xla_cpu_parallel_codegen_split_count=1"
)
