"""Configs: validated, named in messages, resolved."""

import pytest

from apmgsrn_core import ConfigError, Grid, LatticeConfig, ModelConfig, TrainConfig
from apmgsrn_core.network.model import Network

CUBE = Grid((128, 128, 128))


@pytest.mark.parametrize(
    "name, features, bytes_", [("small", 65_536, 160_384), ("medium", 2**20, None), ("large", 2**24, None)]
)
def test_presets_have_the_published_sizes(name, features, bytes_):
    config = ModelConfig.preset("published " + name)
    assert config.feature_parameters == features
    assert 0.9 * config.parameter_count() < ModelConfig.preset(name).parameter_count() < config.parameter_count()
    if bytes_:
        assert config.parameter_count() == 78_656  # the reference's default
        assert config.model_bytes() == (78_656 - 768) * 2 + 768 * 4


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(number_of_grids=3, features_per_grid=4, grid_resolution=(3, 4, 5), bias=True),
        ModelConfig(number_of_grids=0, lattices=(LatticeConfig((4, 4, 4), 3),), linear_skip=True, hidden_layers=0),
        ModelConfig(number_of_grids=2, lattices=(LatticeConfig((5, 4, 3), 2),), interpolation="quadratic"),
    ],
)
def test_parameter_count_is_that_of_the_network(config):
    for components in (1, 3):
        network = Network(config.with_components(components))
        assert sum(p.numel() for p in network.parameters()) == config.parameter_count(components)


def test_flat_data_gets_flat_grids_of_about_the_same_size():
    small = ModelConfig.preset("published small")
    fitted = small.fitted_to(Grid((100, 80, 1)))
    assert fitted.grid_resolution == (23, 23, 1)
    line = small.fitted_to(Grid((1, 300, 1)))
    assert line.grid_resolution == (1, 300, 1)
    assert small.fitted_to(CUBE) == small


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"number_of_grids": -1}, "number_of_grids"),
        ({"number_of_grids": 2.5}, "number_of_grids"),
        ({"number_of_grids": "many"}, "number_of_grids"),
        ({"number_of_grids": 0}, "lattices"),
        ({"features_per_grid": 0}, "features_per_grid"),
        ({"grid_resolution": (8, 8)}, "grid_resolution"),
        ({"grid_resolution": (8, 0, 8)}, "grid_resolution"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"storage": "int8"}, "storage"),
        ({"hidden_width": 0}, "hidden_width"),
        ({"bias": 1}, "bias"),
        ({"interpolation": "quadratic", "lattices": (LatticeConfig((2, 4, 4), 1),)}, "lattices"),
    ],
)
def test_bad_model_settings_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"placement": "octree"}, "placement.*kdtree.*octree"),
        ({"iterations": -1}, "iterations"),
        ({"time_budget": float("nan")}, "time_budget"),
        ({"stop_psnr": -3}, "stop_psnr"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"importance_fraction": 1.0}, "importance_fraction"),
        ({"placement": "random", "transform_gradient": True}, "transform_gradient"),
    ],
)
def test_bad_training_settings_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**arguments)


def test_published_settings_are_those_of_the_paper():
    train = TrainConfig(placement="published").resolved(CUBE)
    assert (train.iterations, train.batch_size, train.schedule) == (10_000, 100_000, "plateau")
    assert (train.positions, train.importance_fraction, train.transform_gradient) == ("continuous", 0.0, False)
    assert train.learning_rate == 0.01
    assert (train.transform_learning_rate, train.transform_start, train.transform_stop) == (5e-4, 0.05, 0.8)
    slow = TrainConfig(placement="published", learning_rate=0.001).resolved(CUBE)
    assert slow.transform_learning_rate == pytest.approx(5e-5)


@pytest.mark.parametrize("placement", ["kdtree", "published", "random"])
def test_resolving_fills_everything_once(placement):
    train = TrainConfig(placement=placement).resolved(CUBE)
    assert None not in train.to_dict().values() and "auto" not in train.to_dict().values()
    assert train.resolved(CUBE) == train


def test_a_time_step_of_a_series_is_trained_shorter_and_rounded():
    alone, step = TrainConfig().resolved(CUBE), TrainConfig().resolved(CUBE, series=True)
    assert (step.iterations, step.batch_size, step.rounding) == (alone.iterations // 2, 2000, 0.2)
    assert alone.rounding == 0.01 and TrainConfig(rounding=0.0).resolved(CUBE, series=True).rounding == 0.0
    model = ModelConfig.preset("small")
    assert 1.9 < model.for_series().parameter_count() / model.parameter_count() < 2.1
    assert model.for_series().model_bytes(rounding=0.2) < model.model_bytes()


def test_rounding_is_chosen_where_it_is_automatic():
    chosen = [TrainConfig(rounding=0.5).with_rounding(s, "float32", r).rounding for s in (True, False) for r in (True, False)]
    assert chosen == [0.5] * 4 and TrainConfig(rounding=0.0).with_rounding().rounding == 0.0
    automatic = TrainConfig()
    assert automatic.with_rounding().rounding == 0.01 and automatic.with_rounding(series=True, storage="float32").rounding == 0.2
    assert automatic.with_rounding(storage="float32").rounding == automatic.with_rounding(refined=True).rounding == 0.0
    assert TrainConfig(rate_bytes=5000).with_rounding(refined=True).rounding == 0.02


def test_rounded_numbers_take_fewer_bytes_the_more_they_are_rounded():
    sizes = [ModelConfig.preset("small").model_bytes(rounding=share) for share in (1e-4, 0.01, 0.2, 10.0)]
    assert sizes == sorted(sizes, reverse=True) and sizes[1] == pytest.approx(77_000 * 6 / 8, rel=0.01)


def test_resolving_keeps_what_the_user_chose():
    chosen = TrainConfig(
        iterations=7, batch_size=9, learning_rate=0.003, importance_fraction=0.0, transform_gradient=False, transform_start=0,
        schedule="plateau", positions="continuous",
    )  # fmt: skip
    resolved = chosen.resolved(CUBE)
    for name in ("iterations", "batch_size", "learning_rate", "importance_fraction", "transform_gradient",
                 "transform_start", "schedule", "positions"):  # fmt: skip
        assert getattr(resolved, name) == getattr(chosen, name), name


def test_round_trip_and_unknown_fields():
    model = ModelConfig(lattices=(LatticeConfig((4, 5, 6), 2),), interpolation="quadratic")
    assert ModelConfig.from_dict(model.to_dict()) == model
    assert TrainConfig.from_dict(TrainConfig(seed=3).to_dict()) == TrainConfig(seed=3)
    with pytest.raises(ConfigError, match="colour"):
        ModelConfig.from_dict({"colour": 1})


@pytest.mark.parametrize("parameters", [2000, 18_000, 77_000, 300_000, 1 << 20])
def test_a_model_of_a_size_has_about_that_size(parameters):
    model = ModelConfig.of_size(parameters)
    assert 0.9 * parameters < model.parameter_count() <= parameters


def test_output_components_must_fit_the_data():
    assert ModelConfig().with_components(3).output_components == 3
    with pytest.raises(ConfigError, match="output_components"):
        ModelConfig(output_components=2).with_components(3)
