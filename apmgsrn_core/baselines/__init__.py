"""Scene representation networks of others, to compare with: faithful to their papers, in readable torch.

Each maps (n, 3) points in [-1, 1] to (n, outputs), 0 and 1 being the range of the data, keeps the arguments that it was made
with as `arguments`, and has the learning rate of its paper as `learning_rate`. `train_baseline` trains any of them.
"""

from __future__ import annotations

from .dense_grids import DenseGrids
from .fvsrn import FVSRN
from .hash_grid import HashGrid
from .siren import Siren
from .training import BaselineResult, train_baseline

BASELINES = {"siren": Siren, "fvsrn": FVSRN, "hash_grid": HashGrid, "dense_grids": DenseGrids}

__all__ = ["BASELINES", "BaselineResult", "DenseGrids", "FVSRN", "HashGrid", "Siren", "train_baseline"]
