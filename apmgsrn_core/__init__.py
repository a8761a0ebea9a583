"""Adaptively placed multi-grid scene representation networks (APMGSRN) for volumes.

The public names of the package. Importing it is cheap: torch is loaded when a name that
needs it (`train_volume`, `NeuralVolume`, ...) is first used.
"""

from __future__ import annotations

import importlib
import os

# torch's OpenMP threads spin while they wait, which on shared cores makes a step several times slower.
# Read when torch is loaded; a value that the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_HOME_OF = {
    "ApmgsrnError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "DeviceError": "errors",
    "FieldError": "errors",
    "ModelFileError": "errors",
    "TrustError": "errors",
    "PRESETS": "model_config",
    "LatticeConfig": "model_config",
    "ModelConfig": "model_config",
    "TrainConfig": "train_config",
    "BrickLayout": "bricks",
    "Grid": "grid",
    "Region": "region",
    "ArrayInfo": "manifest",
    "ArraySpec": "array_spec",
    "ValueTransform": "value_transform",
    "Header": "manifest",
    "check_writable": "model_writer",
    "copy_model": "model_writer",
    "read_header": "model_file",
    "read_model": "model_file",
    "write_bytes": "model_writer",
    "Communicator": "distributed",
    "composite": "compositing",
    "parts_of_ranks": "compositing",
    "Pieces": "pieces",
    "VolumeJob": "volume_job",
    "ErrorSums": "error_metrics",
    "bricks_of_points": "error_metrics",
    "ssim_of_pieces": "error_metrics",
    "divergence": "field_derivatives",
    "q_criterion": "field_derivatives",
    "vorticity": "field_derivatives",
    "held_by_lower": "shared_points",
    "devices_of_rank": "device",
    "choose_layout": "trainer",
    "drive_passes": "volume_training",
    "volume_passes": "volume_training",
    "list_devices": "device",
    "resolve_device": "device",
    "content_hash": "fingerprint",
    "convert_reference": "reference_model",
    "training_key": "fingerprint",
    "ModelFile": "model_file",
    "Camera": "camera",
    "Picture": "picture",
    "RenderOptions": "render_options",
    "TransferFunction": "transfer_function",
    "usual_unit_distance": "transfer_function",
    "VolumeRenderer": "rendering",
    "check_keeps": "time_series",
    "steps_before": "time_series",
    "psnr": "metrics",
    "ssim": "metrics",
    "RefinementTree": "refinement_tree",
    "refine": "refinement",
    "FeatureGrid": "volume",
    "NeuralVolume": "volume",
    "ForeignVolume": "foreign_volume",
    "BASELINES": "baselines",
    "train_baseline": "baselines",
    "save_network": "network_writer",
    "register_network": "network_source",
    "NetworkDescription": "network_description",
    "absolute_path": "volume_opening",
    "open_header": "volume_opening",
    "open_volume": "volume_opening",
    "volume_stamp": "volume_opening",
    "TrainingResult": "volume_training",
    "TrainingState": "history",
    "train_samples": "mesh_training",
    "train_series": "series_training",
    "train_volume": "trainer",
    "MeshPieces": "mesh_values",
    "finest_cover": "mesh_values",
    "voxel_parts": "mask",
}

# modules that import torch
_NEED_TORCH = {
    "baselines",
    "foreign_volume",
    "mesh_training",
    "mesh_values",
    "network_writer",
    "reference_model",
    "rendering",
    "series_training",
    "trainer",
    "volume",
    "volume_job",
    "volume_training",
}

__all__ = sorted(_HOME_OF) + ["__version__"]


def __getattr__(name: str):
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'apmgsrn_core' has no attribute {name!r}")
    if home in _NEED_TORCH:
        from .device import require_torch

        require_torch()
    value = getattr(importlib.import_module("." + home, __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
