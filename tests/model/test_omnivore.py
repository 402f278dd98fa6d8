"""What the model promises beside the golden arrays, and the silent faults of other ports."""

import subprocess
import sys
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from omnivore_jax.core.tree import flatten, unflatten
from omnivore_jax.model import cpu
from omnivore_jax.model.attention import table
from omnivore_jax.model.attention.xla import XLA
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.omnivore import Omnivore
from omnivore_jax.model.params import abstract_model, merge
from omnivore_jax.model.variants import model_config
from tests.params import random_params

HEADS = {"image": 5, "video": 3}
SMALL = ModelConfig("small", 8, (2, 2), (2, 4), (2, 3, 3), init_std=0.3)
COMPUTE = Compute(drop_path=0.5)
PARAMS = jax.device_put(random_params(SMALL, HEADS))
GRAPH = abstract_model(SMALL, HEADS)[0]
rng = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


CLIP = normal(4, 3, 18, 26, 3)  # odd frames, not square, no multiple of patch or window
RGBD = normal(2, 1, 18, 26, 4)


@partial(jax.jit, static_argnames=("head", "compute"))
def scores(params, x, head="video", keys=None, compute=COMPUTE):
    return merge(GRAPH, params)(x, head, keys=keys, compute=compute)


KEYS = jax.random.split(jax.random.key(1), 4)


def test_a_sample_s_scores_do_not_depend_on_its_batch():
    """Against a head that averages over the batch.

    In training as well, since keys belong to samples.
    """
    together, turned = scores(PARAMS, CLIP, keys=KEYS), scores(PARAMS, CLIP[::-1], keys=KEYS[::-1])
    assert together.shape == (4, 3) and together.dtype == jnp.float32
    np.testing.assert_allclose(together, turned[::-1], atol=1e-6)
    others = scores(
        PARAMS, CLIP.at[1:].set(0.0), keys=jax.random.split(jax.random.key(9), 4).at[0].set(KEYS[0])
    )
    np.testing.assert_allclose(together[0], others[0], atol=1e-6)


def test_randomness_comes_from_the_keys_alone_and_only_when_they_are_given():
    np.testing.assert_array_equal(scores(PARAMS, CLIP, keys=KEYS), scores(PARAMS, CLIP, keys=KEYS))
    still = scores(PARAMS, CLIP)
    assert (np.abs(scores(PARAMS, CLIP, keys=KEYS) - still).max(-1) > 1e-3).any()
    np.testing.assert_array_equal(still, scores(PARAMS, CLIP))


def test_dropout_of_the_head_is_the_same_head_on_fewer_features():
    dropped = scores(PARAMS, CLIP, keys=KEYS, compute=replace(COMPUTE, head_dropout=0.5))
    assert not np.allclose(dropped, scores(PARAMS, CLIP, keys=KEYS), atol=1e-4)


def loss(params, x, keys, remat):
    compute = replace(COMPUTE, remat=remat)
    return jnp.square(merge(GRAPH, params)(x, "video", keys=keys, compute=compute)).sum()


gradient = jax.jit(jax.grad(loss), static_argnums=3)


@pytest.mark.parametrize("remat", ["attention", "block"])
def test_recomputing_changes_no_gradient(remat):
    kept, again = (flatten(gradient(PARAMS, CLIP, KEYS, r)) for r in ("none", remat))
    scale = max(float(jnp.abs(leaf).max()) for leaf in kept.values())
    for path, leaf in kept.items():
        np.testing.assert_allclose(again[path], leaf, atol=1e-6 * scale, err_msg=path)
    assert "remat" in str(jax.make_jaxpr(partial(loss, remat=remat))(PARAMS, CLIP, KEYS))


DEEP = replace(SMALL, depths=(8, 2))


@pytest.mark.parametrize("remat", ["none", "block"])
def test_a_loop_over_pairs_of_blocks_changes_no_gradient(remat):
    params = jax.device_put(random_params(DEEP, HEADS))
    graph, noise = abstract_model(DEEP, HEADS)[0], Compute(remat=remat, drop_path=0.5, dropout=0.1)

    def loss(params, scan):
        model = merge(graph, params)
        out = model(CLIP, "video", keys=KEYS, compute=replace(noise, scan=scan))
        return jnp.square(out).sum()

    written, looped = (jax.jit(jax.grad(partial(loss, scan=scan))) for scan in (False, True))
    expected, found = flatten(written(params)), flatten(looped(params))
    for path, leaf in expected.items():
        limit = 2e-5 * float(jnp.abs(leaf).max() + 1e-3)
        np.testing.assert_allclose(found[path], leaf, atol=limit, err_msg=path)
    products = [str(f.trace(params).jaxpr).count("dot_general") for f in (written, looped)]
    assert products[1] < 0.5 * products[0]


def test_an_odd_number_of_blocks_is_written_out():
    odd = replace(SMALL, depths=(9, 2))
    params = jax.device_put(random_params(odd, HEADS))
    graph = abstract_model(odd, HEADS)[0]

    def program(scan):
        model = merge(graph, params)
        return model(CLIP, "video", compute=Compute(scan=scan))

    written, looped = (str(jax.make_jaxpr(program, static_argnums=0)(s)) for s in (False, True))
    assert looped.count("dot_general") == written.count("dot_general") > 0


def test_the_forms_for_cpus_change_no_gradient(monkeypatch):
    by_hand = flatten(gradient(PARAMS, CLIP, KEYS, "none"))
    monkeypatch.setattr(cpu, "on_cpu", lambda: False)
    monkeypatch.setitem(table.TABLES, "cpu", (XLA,))
    plain = flatten(jax.jit(jax.grad(partial(loss, remat="none")))(PARAMS, CLIP, KEYS))
    for path, leaf in by_hand.items():
        np.testing.assert_allclose(
            leaf, plain[path], atol=2e-5 * float(jnp.abs(plain[path]).max() + 1e-3), err_msg=path
        )


def test_a_head_that_is_not_asked_and_the_depth_embedding_of_rgb_get_no_gradient():
    grads = flatten(gradient(PARAMS, CLIP, KEYS, "none"))
    for path, leaf in grads.items():
        silent = path.startswith(("heads.image", "trunk.depth_patch_embed"))
        assert bool((leaf == 0).all()) is silent, path


def changed(params, path, value):
    flat = flatten(params)
    return unflatten(flat | {path: value(flat[path])})


def test_a_still_meets_only_the_first_temporal_slice_of_the_kernel():
    still = CLIP[:, :1]
    other = changed(PARAMS, "trunk.patch_embed.proj.kernel", lambda k: k.at[1].set(7.0))
    np.testing.assert_array_equal(scores(PARAMS, still), scores(other, still))
    after = jnp.concatenate([still, jnp.zeros_like(still)], 1)
    before = after[:, ::-1]
    np.testing.assert_allclose(scores(PARAMS, still), scores(PARAMS, after), atol=1e-5)
    assert not np.allclose(scores(PARAMS, still), scores(PARAMS, before), atol=1e-3)


def test_inflated_two_dimensional_weights_see_in_a_static_clip_what_they_saw_in_the_picture():
    flat = ModelConfig(
        "flat", 8, (2, 2), (2, 4), (1, 3, 3), patch=(1, 4, 4), init_std=0.3, position_bias="joint"
    )
    solid = ModelConfig("solid", 8, (2, 2), (2, 4), (2, 3, 3), init_std=0.3, position_bias="joint")
    params = jax.device_put(random_params(flat, {"image": 5}))
    inflated = {}
    for path, leaf in flatten(params).items():
        if path.endswith(".joint"):
            leaf = jnp.tile(leaf, (3, 1))  # the whole table for every temporal offset
        elif path.endswith("patch_embed.proj.kernel"):
            leaf = jnp.repeat(leaf, 2, 0) / 2
        inflated[path] = leaf
    picture = normal(1, 1, 18, 26, 3)
    still = jax.jit(merge(abstract_model(flat, {"image": 5})[0], params).__call__)(picture)
    model = merge(abstract_model(solid, {"image": 5})[0], unflatten(inflated))
    np.testing.assert_allclose(jax.jit(model.__call__)(jnp.repeat(picture, 8, 1)), still, atol=1e-5)


@pytest.mark.parametrize("depth_embed", ["summed", "separate", "shared"])
def test_depth_embeddings_are_what_their_names_say(depth_embed):
    config = model_config("demo", depths=(1,), num_heads=(2,), depth_embed=depth_embed)
    params = jax.device_put(random_params(config, {}))
    trunk = merge(abstract_model(config, {})[0], params).trunk
    rgb, depth = trunk.patch_embed, trunk.depth_patch_embed
    colours, disparity = RGBD[..., :3], RGBD[..., 3:]
    want = {
        "summed": lambda: rgb.norm(rgb.proj(colours)) + depth.norm(depth.proj(disparity)),
        "separate": lambda: depth.norm(depth.proj(RGBD)),
        "shared": lambda: rgb.norm(rgb.proj(colours) + rgb.var_proj[0](disparity)),
    }[depth_embed]()
    np.testing.assert_array_equal(trunk.embed(RGBD), want)
    np.testing.assert_array_equal(trunk.embed(colours), rgb.norm(rgb.proj(colours)))
    paths = flatten(params).keys()
    assert ("trunk.patch_embed.var_proj.0.kernel" in paths) is (depth_embed == "shared")
    assert ("trunk.depth_patch_embed.norm.scale" in paths) is (depth_embed != "shared")


def test_maps_by_name_are_one_pass_read_at_different_places():
    stages = ("last", "stage0", "stage1", "interim0", "interim1", "premerge0", "premerge1")

    @jax.jit  # one program: called one by one, every operation of the model is one of its own
    def read(params):
        model = merge(GRAPH, params)
        maps = model.features(CLIP, stages)
        norm, merging = model.trunk.norm, model.trunk.layers[0].downsample
        by_hand = {
            "stage0": norm(maps["interim0"]),
            "interim0": merging(maps["premerge0"]),
            "last": norm(maps["interim1"]),
        }
        return maps, by_hand, model.features(CLIP)

    maps, by_hand, pooled = read(PARAMS)
    shapes = {name: value.shape[1:] for name, value in maps.items()}
    assert shapes["premerge0"] == (2, 5, 7, 8) and shapes["interim0"] == shapes["stage0"] == (
        2,
        3,
        4,
        16,
    )
    for name, value in by_hand.items():
        np.testing.assert_array_equal(maps[name], value, err_msg=name)
    np.testing.assert_array_equal(maps["last"], maps["stage1"])
    np.testing.assert_array_equal(maps["premerge1"], maps["interim1"])
    np.testing.assert_allclose(pooled, maps["last"].mean((1, 2, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda m: m(CLIP, "audio"), "head='audio' is not in this model; use one of image, video"),
        (lambda m: m(CLIP[..., :2]), r"has 2 channels; this model takes 3 channels \(RGB\) or 4"),
        (
            lambda m: m.features(CLIP, ("stage7",)),
            "'stage7' is not a map of this model; use last, stage0, stage1",
        ),
        (lambda m: Omnivore(SMALL, {"a.b": 3}, key=jax.random.key(0)), "head='a.b' is no name"),
        (lambda m: Omnivore(SMALL, {"a": 0}, key=jax.random.key(0)), "head 'a' has 0 classes"),
        (
            lambda m: jax.eval_shape(
                lambda key: Omnivore(model_config("tiny"), {}, key=key).features(CLIP, ("stage1",)),
                jax.random.key(0),
            ),
            "'stage1' has not the 192 channels of the final norm; use last, stage2, stage3",
        ),
        (
            lambda m: jax.eval_shape(
                lambda key: Omnivore(model_config("demo", depth_embed="none"), HEADS, key=key)(
                    RGBD
                ),
                jax.random.key(0),
            ),
            r"has 4 channels; this model takes 3 channels \(RGB\), in",
        ),
    ],
)
def test_wrong_uses_are_named_with_their_remedy(use, says):
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(lambda params: use(merge(GRAPH, params)), PARAMS)  # traced: nothing compiles


def test_bfloat16_is_within_a_hundredth():
    config = model_config("demo", position_bias="factored", init_std=0.1)
    graph, _ = abstract_model(config, {"image": 10})
    params = jax.device_put(random_params(config, {"image": 10}))
    x = normal(2, 1, 32, 32, 3)
    computes = Compute(), Compute(dtype="bfloat16")
    wide, small = (
        np.asarray(jax.jit(lambda p, c=c: merge(graph, p)(x, compute=c))(params)) for c in computes
    )
    assert small.dtype == np.float32
    assert 0 < np.abs(wide - small).max() < 1e-2 * np.abs(wide).max()


def test_tables_do_not_depend_on_the_length_of_the_clip():
    _, params = abstract_model(model_config("omnivore_swin_t", position_bias="joint"), {})
    assert params["trunk"]["layers"]["3"]["blocks"]["1"]["attn"]["relative_position_bias_table"][
        "joint"
    ].shape == (
        2535,
        24,
    )


def test_lists_of_more_than_ten_blocks_keep_their_order():
    config = ModelConfig("deep", 4, (12,), (1,), (1, 2, 2))
    params = jax.device_put(random_params(config, {"image": 5}))
    model = merge(abstract_model(config, {"image": 5})[0], params)
    for i, block in enumerate(model.trunk.layers[0].blocks):
        want = params["trunk"]["layers"]["0"]["blocks"][str(i)]["mlp"]["fc1"]["kernel"]
        assert jnp.array_equal(block.mlp.fc1.kernel[...], want) and block.shifted is bool(i % 2)


def test_on_eight_devices_samples_stay_where_they_are_and_scores_are_the_same():
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    x = jnp.concatenate([CLIP, CLIP + 1])
    where = NamedSharding(mesh, P(("data", "fsdp")))

    def place(leaf):
        return jax.device_put(
            leaf, NamedSharding(mesh, P(*(("fsdp",) if leaf.shape[0] % 4 == 0 else ())))
        )

    with jax.set_mesh(mesh):
        step = jax.jit(lambda p, x: merge(GRAPH, p)(x, "video")).lower(
            jax.tree.map(place, PARAMS), jax.device_put(x, where)
        )
        compiled = step.compile()
        found = compiled(jax.tree.map(place, PARAMS), jax.device_put(x, where))
    assert found.sharding.is_equivalent_to(where, 2)
    assert "sharding_constraint" in step.as_text() or "@Sharding" in step.as_text()
    alone = np.concatenate([scores(PARAMS, CLIP), scores(PARAMS, CLIP + 1)])  # a shape of before
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_the_model_imports_where_only_jax_flax_optax_einops_and_jaxtyping_are():
    absent = ("grain", "ml_collections", "av", "orbax", "cv2", "PIL", "safetensors", "torch")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); import omnivore_jax.model.cost"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
