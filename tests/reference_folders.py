"""Folders as the authors' published code saves them, and what that code computes from their numbers, in a few lines."""

from __future__ import annotations

import json

import numpy as np
import torch
import torch.nn.functional as F


class ReferencePart:
    """One network with random weights; arguments as its options name them. `fused`: the layout of tiny-cuda-nn."""

    def __init__(self, seed=0, grids=5, features=2, shape=(3, 4, 5), width=16, layers=2, outputs=1, low=-2.0, high=3.0,
                 fused=False, padded=False, bias=False, half=False):  # fmt: skip
        make = torch.Generator().manual_seed(seed)
        dims, self.layers, self.fused = len(shape), layers, fused
        self.features = torch.rand(grids, features, *shape, generator=make) * 2 - 1
        self.matrices = torch.eye(dims + 1).repeat(grids, 1, 1)
        self.matrices[:, :dims] += torch.randn(grids, dims, dims + 1, generator=make) * 0.2
        inputs = grids * features
        wide = -(-inputs // 16) * 16 if fused or padded else inputs
        self.padding = wide - inputs
        rows = [width] * layers + [-(-outputs // 16) * 16 if fused else outputs]
        columns = [wide] + [width] * layers
        self.weights = [torch.randn(r, c, generator=make) / c**0.5 for r, c in zip(rows, columns)]
        self.biases = [torch.randn(r, generator=make) * (0.1 if bias else 0) for r in rows]
        if half:
            self.weights = [w.half().float() for w in self.weights]
        self.bias, self.half, self.outputs, self.range = bias, half, outputs, (low, high)
        self.options = {
            "model": "APMGSRN", "n_dims": dims, "n_outputs": outputs, "n_grids": grids, "n_features": features,
            "feature_grid_shape": ",".join(map(str, shape)), "nodes_per_layer": width, "n_layers": layers,
            "requires_padded_feats": padded, "use_tcnn_if_available": fused, "align_corners": True, "ensemble": False,
            "data": "tornado.nc", "data_min": low, "data_max": high, "extents": None, "grid_index": "1,1,1",
        }  # fmt: skip

    def forward(self, x):
        """(n, dims) -> (n, outputs), as `Models/APMGSRN.py` does it."""
        dims = x.shape[1]
        local = (self.matrices @ torch.cat([x, torch.ones(len(x), 1)], 1).t()).transpose(1, 2)[..., :dims]
        places = local.reshape(len(local), *(1,) * (dims - 1), len(x), dims)
        y = F.grid_sample(self.features, places, align_corners=True).flatten(0, dims).t()
        y = F.pad(y, (0, self.padding), value=1.0)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            y = y @ weight.t() + bias
            y = torch.relu(y) if layer < self.layers else y
        low, high = self.range
        return y[:, : self.outputs] * (high - low) + low

    def state(self):
        """As `state_dict()` gives it."""
        state = {"encoder.transformation_matrices": self.matrices, "encoder.feature_grids": self.features}
        if self.fused:
            flat = torch.cat([w.flatten() for w in self.weights])
            return {**state, "decoder.params": flat.half() if self.half else flat}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            name = f"decoder.{layer}" + ("" if layer == self.layers else ".linear")
            state[f"{name}.weight"] = weight
            if self.bias:
                state[f"{name}.bias"] = bias
        return state

    def save(self, folder, full_shape, protocol=4, **options):
        """Write the folder; `full_shape` is z, y, x."""
        folder.mkdir(parents=True, exist_ok=True)
        options = {**self.options, "full_shape": full_shape, **options}
        (folder / "options.json").write_text(json.dumps(options, sort_keys=True, indent=4))
        state = torch.nn.ParameterDict({}).state_dict()  # an OrderedDict with torch's own attribute
        state.update(self.state())
        torch.save({"state_dict": state}, folder / "model.ckpt.tar", pickle_protocol=protocol)
        return folder


def extents_of(full_shape, counts, place, ghosts=0):
    """[z start, z end, y start, ...] of a part of an ensemble, as `start_jobs.py` writes it; all along z, y, x."""
    ends = []
    for n, count, i in zip(full_shape, counts, place):
        start, end = int(i * (n / count)), n if i == count - 1 else int((i + 1) * (n / count))
        ends += [max(0, start - ghosts - 1), min(n, end + ghosts + 1)]
    return ends


def ensemble_forward(parts, full_shape, counts, extents, x):
    """(n, 3) -> (n, outputs), as `Models/ensemble_SRN.py` does it; parts and extents have z slowest."""
    grid = torch.tensor(counts[::-1])
    index = ((x + 1) / 2).clamp(0.0, 0.99) * grid
    index = index.long()
    number = index[:, 0] + index[:, 1] * grid[0] + index[:, 2] * grid[0] * grid[1]
    y = torch.empty(len(x), parts[0].outputs)
    sizes = torch.tensor(full_shape) - 1
    for i, (part, extent) in enumerate(zip(parts, extents)):
        low = ((torch.tensor(extent[0::2]) / sizes - 0.5) * 2).flip(0)
        high = (((torch.tensor(extent[1::2]) - 1) / sizes - 0.5) * 2).flip(0)
        y[number == i] = part.forward(-1 + 2 * (x[number == i] - low) / (high - low))
    return y


def lattice(full_shape):
    """(n, 3) x, y, z in [-1, 1] of all values, z slowest: their `make_coord_grid` with align_corners."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) if n > 1 else np.zeros(1, np.float32) for n in full_shape]
    return torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))[:, ::-1].copy())
