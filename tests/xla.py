"""How tests compile: they compile much and compute little.

On one gradient of the golden model: 7.6 core-seconds of compilation by default, 3.3 unoptimized,
1.1 without the fusion emitters (MLIR), .9 in one part.
"""

FLAGS = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
