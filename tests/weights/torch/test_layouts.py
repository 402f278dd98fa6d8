import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.opening import open_weights
from tests.weights.torch import layout_files

FLAT = ("microsoft", "timm", "torchvision2d")
HEADS = {"epic": {"epic": 400}} | dict.fromkeys(("mmaction", "torchvision3d"), {"video": 400})
HEADS |= dict.fromkeys(FLAT, {"image": 1000})
ALL_HEADS = {"image": 1000, "rgbd": 19, "video": 400}


@pytest.mark.parametrize("layout", layout_files.files())
def test_every_layout_is_told_from_keys_and_shapes_and_holds_the_golden_arrays(tmp_path, layout):
    title, state = layout_files.files()[layout]
    source = open_weights(layout_files.save(tmp_path / "any.name", state))
    assert (source.layout, source.unknown) == (title, [])
    assert source.heads == HEADS.get(layout, ALL_HEADS)
    assert (source.config.name, source.config.window_index, source.config.position_bias) == (
        "tiny",
        "released",
        "joint",
    )
    assert source.config.window == ((1, 7, 7) if layout in FLAT else (4, 7, 7))
    assert source.config.depth_embed == ("none" if layout in HEADS else "summed")
    golden = layout_files.golden_params()
    for path, array in source.arrays.items():
        want = golden[path.replace("heads.epic", "heads.video")]
        if layout in FLAT and path.endswith("proj.kernel") and "patch_embed" in path:
            want = want[:1]
        elif layout in FLAT and path.endswith("joint"):
            want = want.reshape(7, 169, -1)[3]
        np.testing.assert_array_equal(array.read(), want, err_msg=path)
    assert len(source.arrays) == (121 if layout in HEADS else 129)


def test_what_belongs_to_a_trainer_is_told_from_what_nobody_knows(tmp_path):
    _, state = layout_files.files()["omnivision"]
    source = open_weights(
        layout_files.save(
            tmp_path / "f", state | {"model.heads.image.extra": np.zeros(2, np.float32)}
        )
    )
    assert sorted(source.training) == ["epoch", "optimizer.state.0.exp_avg"]
    assert source.unknown == ["model.heads.image.extra"]


def test_a_file_with_two_models_asks_which(tmp_path):
    whole = layout_files.released()
    both = layout_files.renamed(whole, (r"^", "classy_state_dict.base_model.model."))
    both |= layout_files.renamed(whole, (r"^", "classy_state_dict.ema_model.model."))
    path = layout_files.save(tmp_path / "f", both)
    with pytest.raises(
        UserError, match="2 models; convert one, by --prefix=classy_state_dict.base"
    ):
        open_weights(path)
    source = open_weights(path, prefix="classy_state_dict.ema_model")
    assert source.names["trunk.norm.scale"] == "classy_state_dict.ema_model.model.trunk.norm.weight"
    assert len(source.others) == len(whole) and source.training == source.unknown == []
    with pytest.raises(UserError, match="no Swin trunk below --prefix=ema"):
        open_weights(path, prefix="ema")


def test_a_model_without_a_prefix_can_be_chosen_too(tmp_path):
    plain = layout_files.trunk_only(layout_files.released())
    path = layout_files.save(tmp_path / "f", plain | layout_files.renamed(plain, (r"^", "module.")))
    with pytest.raises(UserError, match="2 models; convert one, by --prefix=module. or --prefix="):
        open_weights(path)
    found = open_weights(path, prefix="")
    assert (
        found.names["trunk.norm.scale"] == "norm.weight"
        and found.unknown == []
        and len(found.others) == len(plain)
    )
    assert open_weights(path, prefix="module.").names["trunk.norm.scale"] == "module.norm.weight"


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"trunk.layers.0.blocks.0.attn.logit_scale": 3}, "Swin V2"),
        ({"trunk.layers.9.blocks.0.norm1.weight": 3}, "blocks of stages"),
        ({"trunk.layers.0.blocks.9999.norm1.weight": 3}, "10000 blocks"),
    ],
)
def test_what_is_no_swin_of_this_kind_is_one_line(tmp_path, extra, says):
    state = layout_files.released() | {
        name: np.zeros(size, np.float32) for name, size in extra.items()
    }
    with pytest.raises(UserError, match=says):
        open_weights(layout_files.save(tmp_path / "f", state))


def test_heads_that_no_layout_names_are_called_by_their_numbers(tmp_path):
    whole = layout_files.released()
    state = layout_files.renamed(
        whole, (r"^heads\.image\.", "heads.0."), (r"^heads\.rgbd\.", "heads.7.")
    )
    assert open_weights(layout_files.save(tmp_path / "f", state)).heads == {
        "head0": 1000,
        "head7": 19,
        "video": 400,
    }
    alone = layout_files.single_head(whole, source="image", weight="heads.0")
    assert open_weights(layout_files.save(tmp_path / "f", alone)).heads == {"head0": 1000}
    nameless = layout_files.single_head(whole, source="image", weight="heads")
    assert open_weights(layout_files.save(tmp_path / "f", nameless)).heads == {"head": 1000}
    dashed = layout_files.renamed(whole, (r"^heads\.image\.", "heads.my-head."))
    assert open_weights(layout_files.save(tmp_path / "f", dashed)).heads == {
        "my-head": 1000,
        "rgbd": 19,
        "video": 400,
    }


def test_a_window_that_is_not_square_must_be_named(tmp_path):
    index = {"trunk.layers.0.blocks.0.attn.relative_position_index": np.zeros((60, 60), np.int64)}
    state = {
        n: a[: 7 * 5 * 9] if n.endswith("table") else a for n, a in layout_files.released().items()
    }
    path = layout_files.save(tmp_path / "f", state)
    assert open_weights(path, source_window=(4, 3, 5)).config.window == (4, 3, 5)
    with pytest.raises(
        UserError, match="a table of 315 .* is of no square window; name it by --source-window"
    ):
        open_weights(layout_files.save(tmp_path / "f", state | index))
    assert open_weights(path, source_window=(4, 3, 5)).config.window == (4, 3, 5)


def test_a_variant_that_the_user_names_must_be_that_of_the_file(tmp_path):
    path = layout_files.save(tmp_path / "f", layout_files.released())
    assert open_weights(path, variant="tiny").config.name == "tiny"
    with pytest.raises(UserError, match="embed_dim=96, but .* has 24; it is a tiny"):
        open_weights(path, variant="omnivore_swinT")
    with pytest.raises(UserError, match="--variant: model 'huge' is not known"):
        open_weights(path, variant="huge")


def test_two_keys_of_one_parameter_are_refused(tmp_path):
    _, state = layout_files.files()["torchvision3d"]
    twice = state | {"layers.0.blocks.0.norm1.weight": state["features.0.0.norm1.weight"]}
    with pytest.raises(UserError, match="are the same parameter"):
        open_weights(layout_files.save(tmp_path / "f", twice))


def test_the_index_buffer_of_another_model_says_nothing_about_the_window(tmp_path):
    plain = layout_files.trunk_only(layout_files.released())
    index = {"a.layers.0.blocks.0.attn.relative_position_index": np.zeros((392, 392), np.int64)}
    both = (
        index
        | layout_files.renamed(plain, (r"^", "a."))
        | layout_files.renamed(plain, (r"^", "b."))
    )
    path = layout_files.save(
        tmp_path / "f", both | {"optimizer.exp_avg.patch_embed.proj.weight": np.zeros(3)}
    )
    assert open_weights(path, prefix="b.").config.window == (4, 7, 7)


def test_what_no_key_of_the_chosen_model_explains_is_unknown_also_beside_another_model(tmp_path):
    plain = layout_files.trunk_only(layout_files.released())
    both = (
        plain
        | layout_files.renamed(plain, (r"^", "ema."))
        | {"ema.heads.weird.proj.extra": np.zeros(3, np.float32)}
    )
    path = layout_files.save(tmp_path / "f", both)
    assert open_weights(path, prefix="ema.").unknown == ["ema.heads.weird.proj.extra"]
    assert "ema.heads.weird.proj.extra" in open_weights(path, prefix="").others
