"""Small models, and data where they are, for the tests of the filters that evaluate a model."""

from __future__ import annotations

import numpy as np
from conftest import make_image, smooth_values

from apmgsrn_core import ArraySpec, BrickLayout, Grid, ModelConfig, NeuralVolume, TrainConfig, train_volume
from apmgsrn_core.file.model_writer import StoredBrick, pack_model
from apmgsrn_core.file.weights import describe_brick, describe_model, pack_section

DIMS = (9, 8, 7)
GRID = Grid(DIMS, (1, 2, 3), (0.5, 1, 2))
CELLS = Grid(DIMS, GRID.origin, GRID.spacing, association="cell")
WAVELET = Grid((16, 11, 11), (-8, -5, 2))  # where a Wavelet of the parallel tests is
NETWORK = ModelConfig(number_of_grids=4, grid_resolution=(4, 4, 4), hidden_width=16)
TRAIN = TrainConfig(iterations=20, batch_size=300, rounding=0)  # so small a file of rounded numbers has no room for macrocells
TIMES = (1.0, 3.0)


def train_models(folder) -> dict:
    """{name: path}: of f; of f and the vector v; of v; of f in bricks; of f in cells; of RTData in bricks; of f at two times."""
    f, v = smooth_values(DIMS), smooth_values(DIMS, components=3)
    made = {
        "f": {"values": f, "name": "f"},
        "several": {"values": np.concatenate([f[..., None], v], axis=-1), "arrays": (ArraySpec("f"), ArraySpec("v", 3))},
        "vector": {"values": v, "name": "v"},
        "bricks": {"values": f, "name": "f", "bricks": (2, 1, 2)},
        "wavelet": {"values": smooth_values((16, 11, 11)), "grid": WAVELET, "name": "RTData", "bricks": (2, 1, 2)},
        "cells": {"values": f[:-1, :-1, :-1], "name": "f", "grid": CELLS},
    }
    for name, arguments in made.items():
        arguments = {"grid": GRID, "model": NETWORK, "train": TRAIN, "device": "cpu", **arguments}
        train_volume(**arguments, on_progress=lambda state: True).save(folder / f"{name}.apmgsrn")
    paths = {name: str(folder / f"{name}.apmgsrn") for name in (*made, "times")}
    (folder / "times.apmgsrn").write_bytes(in_time(paths["f"]))
    return paths


def in_time(path: str) -> bytes:
    """The model of one time as one of two; at the second the values are turned, from the upper to the lower end."""
    volume = NeuralVolume.open(path, "cpu")
    layout, sections = BrickLayout(DIMS), []
    for step in range(len(TIMES)):
        network = NeuralVolume.open(path, "cpu").network(0)
        if step:
            network.layers[-1].weight.data *= -1
        sections.append(
            StoredBrick.of_bytes(0, describe_brick(network, layout, 0, network.config), pack_section(network), step)
        )
    config = volume.network(0).config
    return pack_model(describe_model(GRID, layout, volume.arrays, TIMES, config, TRAIN, "key"), sections)


def image_like_the_model(name="f", **arguments):
    """The data that the models of f are trained on."""
    return make_image(smooth_values(DIMS), origin=GRID.origin, spacing=GRID.spacing, name=name, **arguments)
