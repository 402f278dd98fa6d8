import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.core.tree import flatten
from omnivore_jax.train import optimizer as opt
from omnivore_jax.train.groups import active_groups, join_groups, split_groups
from omnivore_jax.train.optimizer import OptimizerConfig
from omnivore_jax.train.schedule import learning_rate


def tree(seed):
    rng = np.random.default_rng(seed)

    def leaf(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    block = {
        "qkv": {"kernel": leaf(3, 4), "bias": leaf(4)},
        "relative_position_bias_table": {"joint": leaf(5, 2)},
    }
    return {
        "trunk": {
            "patch_embed": {
                "proj": {"kernel": leaf(2, 3)},
                "var_proj": {"0": {"kernel": leaf(2, 3)}},
            },
            "depth_patch_embed": {"proj": {"kernel": leaf(2, 3)}},
            "layers": {"0": block},
            "norm": {"scale": leaf(4)},
        },
        "heads": {"image": {"kernel": leaf(4, 2)}, "video": {"kernel": leaf(4, 3)}},
    }


@pytest.mark.parametrize("total", [1000, 30_000])
def test_learning_rate_at_the_marks_of_the_released_schedule(total):
    marks = [learning_rate(OptimizerConfig(), int(f * total), total) for f in (0, 0.1, 0.5, 0.9, 1)]
    np.testing.assert_allclose(marks, [2e-6, 2e-3, 1.1e-3, 2e-4, 1e-6], rtol=1e-5)


def test_learning_rate_can_warm_up_by_steps_and_fall_to_zero_along_half_a_cosine():
    demo = OptimizerConfig(
        peak=3e-3, start=0.0, cooldown=0.0, end=0.0, warmup_steps=60, cooldown_start=1.0
    )
    found = [learning_rate(demo, step, 4260) for step in (0, 30, 60, 2160, 4260)]
    np.testing.assert_allclose(found, [0, 1.5e-3, 3e-3, 1.5e-3, 0], atol=1e-8)


def test_learning_rate_never_jumps_and_is_float32():
    rates = np.array(jax.vmap(lambda s: learning_rate(OptimizerConfig(), s, 997))(jnp.arange(998)))
    assert rates.dtype == np.float32 and np.abs(np.diff(rates)).max() < 2e-3 / 99 * 1.01


def test_groups_part_a_tree_and_join_it_again():
    params = tree(0)
    groups = split_groups(params)
    assert set(groups) == {
        "trunk",
        "patch_embed",
        "depth_patch_embed",
        "heads.image",
        "heads.video",
    }
    assert set(groups["depth_patch_embed"]["trunk"]) == {"patch_embed", "depth_patch_embed"}, (
        "var_proj sees depth"
    )
    assert sum(len(jax.tree.leaves(group)) for group in groups.values()) == len(
        jax.tree.leaves(params)
    )
    jax.tree.map(np.testing.assert_array_equal, join_groups(groups.values()), params)


@pytest.mark.parametrize(
    ("embed", "depths", "embeds"),
    [
        ("summed", [False], {"patch_embed"}),
        ("summed", [True], {"patch_embed", "depth_patch_embed"}),
        ("shared", [True], {"patch_embed", "depth_patch_embed"}),
        ("separate", [True], {"depth_patch_embed"}),
        ("separate", [True, False], {"patch_embed", "depth_patch_embed"}),
        ("none", [False], {"patch_embed"}),
    ],
)
def test_a_step_trains_what_its_samples_pass_through(embed, depths, embeds):
    active = active_groups(embed, ["image", "rgbd"][: len(depths)], depths)
    assert active == {"trunk", *embeds, *(f"heads.{h}" for h in ["image", "rgbd"][: len(depths)])}


def by_hand(param, grads, rate, decay, steps):
    """AdamW of Loshchilov and Hutter, in float64, one gradient after another."""
    param, mean, square = np.float64(param), 0.0, 0.0
    for t, g in zip(steps, grads, strict=True):
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        step = (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        param = param - rate * (step + decay * param)
    return param


@pytest.fixture(scope="module")
def run():
    """Applies three updates to the tree; the video head is absent from the second."""

    def apply(**settings):
        config = OptimizerConfig(**settings)
        params = split_groups(tree(0))
        state = opt.init(tree(0), config.rule)
        update = jax.jit(opt.update, static_argnums=0)
        for number, seed in enumerate((1, 2, 3)):
            grads = split_groups(tree(seed))
            if number == 1:
                del grads["heads.video"]
            params, state = update(config, jnp.float32(0.01), params, grads, state)
        return join_groups(params.values()), state

    return apply


def test_an_absent_group_is_left_alone_with_its_moments_decay_and_step_count(run):
    params, state = run()
    pick = lambda t: np.asarray(t["heads"]["video"]["kernel"], np.float64)  # noqa: E731
    expected = by_hand(pick(tree(0)), [pick(tree(1)), pick(tree(3))], 0.01, 0.05, (1, 2))
    np.testing.assert_allclose(pick(params), expected, rtol=1e-5)
    assert int(state["heads.video"].count) == 2 and int(state["trunk"].count) == 3


def test_the_switch_feeds_zero_gradients_to_an_absent_group(run):
    params, state = run(update_absent=True)
    pick = lambda t: np.asarray(t["heads"]["video"]["kernel"], np.float64)  # noqa: E731
    expected = by_hand(
        pick(tree(0)), [pick(tree(1)), 0 * pick(tree(1)), pick(tree(3))], 0.01, 0.05, (1, 2, 3)
    )
    np.testing.assert_allclose(pick(params), expected, rtol=1e-5)
    assert int(state["heads.video"].count) == 3


def test_the_switch_leaves_alone_what_was_never_trained():
    params = split_groups(tree(0))
    grads = {"trunk": split_groups(tree(1))["trunk"]}
    update = jax.jit(opt.update, static_argnums=0)
    config = OptimizerConfig(update_absent=True)
    new, _ = update(config, jnp.float32(0.01), params, grads, opt.init(tree(0)))
    np.testing.assert_array_equal(
        new["heads.image"]["heads"]["image"]["kernel"], tree(0)["heads"]["image"]["kernel"]
    )


@pytest.mark.parametrize(
    ("path", "decay"),
    [
        (("layers", "0", "qkv", "kernel"), 0.05),
        (("layers", "0", "qkv", "bias"), 0),
        (("layers", "0", "relative_position_bias_table", "joint"), 0),
        (("norm", "scale"), 0),
    ],
    ids=lambda p: str(p),
)
def test_kernels_decay_and_biases_norms_and_tables_do_not(run, path, decay):
    def pick(tree):
        node = tree["trunk"]
        for key in path:
            node = node[key]
        return np.asarray(node, np.float64)

    expected = by_hand(pick(tree(0)), [pick(tree(s)) for s in (1, 2, 3)], 0.01, decay, (1, 2, 3))
    np.testing.assert_allclose(pick(run()[0]), expected, rtol=2e-5, atol=1e-6)


def test_sgd_is_pytorchs_with_momentum_and_decay_of_the_gradient(run):
    def pick(tree):
        return np.asarray(tree["heads"]["video"]["kernel"], np.float64)

    param, velocity = pick(tree(0)), 0.0
    for seed in (1, 3):  # absent from the second update
        velocity = 0.9 * velocity + pick(tree(seed)) + 0.05 * param
        param = param - 0.01 * velocity
    params, state = run(rule="sgd")
    np.testing.assert_allclose(pick(params), param, rtol=1e-5)
    assert set(state["trunk"]._fields) == {"trace"}


@pytest.mark.parametrize("rule", ["adamw", "sgd"])
def test_the_trunk_may_learn_slower_than_the_heads(run, rule):
    def pick(**settings):
        params = run(rule=rule, decay=0.0, **settings)[0]
        moves = jax.tree.map(lambda new, old: np.asarray(new - old), params, tree(0))
        return moves["heads"]["image"]["kernel"], moves["trunk"]["norm"]["scale"]

    (head, trunk), (same, slow) = pick(), pick(trunk_rate=0.1)
    np.testing.assert_array_equal(head, same)
    # With Adam a step depends on the gradients alone, with SGD too where nothing decays.
    np.testing.assert_allclose(slow, 0.1 * trunk, rtol=1e-4, atol=1e-7)


def test_clipping_shortens_a_long_gradient_and_leaves_a_short_one():
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    np.testing.assert_allclose(
        opt.clip_by_norm(grads, jnp.float32(5), 1.0)["a"], [0.6, 0.0], rtol=1e-6
    )
    for limit in (0.0, 6.0):
        np.testing.assert_array_equal(opt.clip_by_norm(grads, jnp.float32(5), limit)["b"], [4.0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"peak": -1.0},
        {"warmup": 1.0},
        {"cooldown_start": 0.05},
        {"betas": (0.9, 1.0)},
        {"eps": 0.0},
        {"ema": 1.0},
        {"momentum": 1.0},
        {"trunk_rate": -0.1},
        {"update_absent": True, "rule": "sgd"},
    ],
    ids=str,
)
def test_an_impossible_setting_is_named_with_its_remedy(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=.*; use "):
        OptimizerConfig(**wrong)


def test_rates_fall_layer_by_layer_towards_the_input():
    one = {"kernel": jnp.ones((2, 2))}
    params = {
        "trunk": {
            "patch_embed": {"proj": one},
            "layers": {
                "0": {"blocks": {"0": {"fc": one}, "1": {"fc": one}}, "downsample": {"fc": one}},
                "1": {"blocks": {str(k): {"fc": one} for k in range(11)}},
            },
            "norm": {"scale": jnp.ones(2)},
        },
        "heads": {"image": one},
    }
    config = OptimizerConfig(rule="sgd", momentum=0.0, decay=0.0, layer_decay=0.5)
    groups = split_groups(params)
    moved, _ = opt.update(config, jnp.float32(1.0), groups, groups, opt.init(params, "sgd"))
    steps = {
        path: float(1 - leaf.ravel()[0])
        for path, leaf in flatten(join_groups(moved.values())).items()
    }
    expected = {"heads.image.kernel": 0, "trunk.norm.scale": 0, "trunk.patch_embed.proj.kernel": 14}
    expected |= {f"trunk.layers.0.blocks.{k}.fc.kernel": 13 - k for k in range(2)}
    expected |= {"trunk.layers.0.downsample.fc.kernel": 12}
    expected |= {f"trunk.layers.1.blocks.{k}.fc.kernel": 11 - k for k in range(11)}
    assert steps == pytest.approx({path: 0.5**layers for path, layers in expected.items()})


def test_a_linear_probe_moves_the_head_alone_and_poly_falls_along_a_power():
    params = tree(0)
    groups = split_groups(params)
    config = OptimizerConfig(trunk_rate=0.0)
    moved, _ = opt.update(config, jnp.float32(0.1), groups, split_groups(tree(1)), opt.init(params))
    same = jax.tree.map(lambda a, b: bool((a == b).all()), params, join_groups(moved.values()))
    assert all(jax.tree.leaves(same["trunk"])) and not any(jax.tree.leaves(same["heads"]))
    poly = OptimizerConfig(
        schedule="poly", power=2.0, peak=1.0, start=0.0, end=0.1, warmup_steps=10
    )
    rates = [float(learning_rate(poly, step, 100)) for step in (0, 5, 10, 50, 100)]
    # by hand: .1 + .9 (1 - t)^2, and half of the way there at step 5
    expected = [0.0, 0.5 * (0.1 + 0.9 * 0.95**2), 0.1 + 0.9 * 0.9**2, 0.1 + 0.9 * 0.25, 0.1]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
