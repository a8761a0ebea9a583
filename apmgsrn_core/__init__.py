"""Adaptively placed multi-grid scene representation networks (APMGSRN) for volumes.

The public names of the package. Importing it is cheap: torch is loaded when a name that
needs it (`train_volume`, `NeuralVolume`, ...) is first used.
"""

from __future__ import annotations

import importlib
import os

from . import messages

# torch's OpenMP threads spin while they wait, which on shared cores makes a step several times slower.
# Read when torch is loaded; a value that the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

messages.set_up()

_HOME_OF = {
    "ApmgsrnError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "DeviceError": "errors",
    "FieldError": "errors",
    "MemoryShortage": "errors",
    "ModelFileError": "errors",
    "TorchError": "errors",
    "TrustError": "errors",
    "PRESETS": "network.model_config",
    "LatticeConfig": "network.model_config",
    "ModelConfig": "network.model_config",
    "TrainConfig": "training.train_config",
    "BrickLayout": "brick_layout",
    "Grid": "grid",
    "Region": "region",
    "ArrayInfo": "file.manifest",
    "ArraySpec": "data.array_spec",
    "ValueTransform": "data.value_transform",
    "Header": "file.manifest",
    "check_writable": "file.model_writer",
    "copy_model": "file.model_writer",
    "read_header": "file.model_file",
    "read_model": "file.model_file",
    "write_bytes": "file.model_writer",
    "Communicator": "distributed",
    "composite": "rendering.compositing",
    "parts_of_ranks": "rendering.compositing",
    "Pieces": "data.pieces",
    "VolumeJob": "training.volume_job",
    "ErrorSums": "sampling.error_metrics",
    "bricks_of_points": "sampling.error_metrics",
    "ssim_of_pieces": "sampling.error_metrics",
    "divergence": "sampling.field_derivatives",
    "q_criterion": "sampling.field_derivatives",
    "vorticity": "sampling.field_derivatives",
    "held_by_lower": "data.shared_points",
    "devices_of_rank": "device",
    "choose_layout": "training.trainer",
    "Aim": "training.aim",
    "AIMS": "training.aim",
    "COMPACT_BYTES": "training.aim",
    "compact_file_bytes": "training.aim",
    "estimated_bytes": "training.aim",
    "parameters_for": "training.aim",
    "quality_rate_bytes": "training.aim",
    "rate_bytes_for": "training.aim",
    "step_cost": "training.aim",
    "trains_quickly": "device",
    "usual_rate_bytes": "training.aim",
    "USUAL_BOUND": "residual.split",
    "network_bytes": "residual.split",
    "lattices_for": "training.aim",
    "drive_passes": "training.volume_training",
    "volume_passes": "training.volume_training",
    "LiveTraining": "training.training_slice",
    "BrickFolder": "bricks.folder",
    "HostProgram": "diagnosis.finding",
    "examine_installation": "diagnosis.examination",
    "findings_as_narrow_text": "diagnosis.examination",
    "list_devices": "device",
    "resolve_device": "device",
    "content_hash": "training.fingerprint",
    "convert_reference": "foreign.reference_model",
    "training_key": "training.fingerprint",
    "ModelFile": "file.model_file",
    "UnchangedFile": "file.unchanged_file",
    "Camera": "rendering.camera",
    "Picture": "rendering.picture",
    "RenderOptions": "rendering.render_options",
    "TransferFunction": "rendering.transfer_function",
    "usual_unit_distance": "rendering.transfer_function",
    "VolumeRenderer": "rendering.renderer",
    "rendered_array": "rendering.ray_field",
    "check_keeps": "training.time_series",
    "steps_before": "training.time_series",
    "psnr": "sampling.metrics",
    "ssim": "sampling.metrics",
    "RefinementTree": "sampling.refinement_tree",
    "refine": "sampling.refinement",
    "FeatureGrid": "sampling.volume",
    "NeuralVolume": "sampling.volume",
    "ForeignVolume": "foreign.volume",
    "BASELINES": "baselines",
    "train_baseline": "baselines",
    "save_network": "foreign.network_writer",
    "register_network": "foreign.network_source",
    "NetworkDescription": "foreign.network_description",
    "absolute_path": "sampling.volume_opening",
    "open_header": "sampling.volume_opening",
    "open_volume": "sampling.volume_opening",
    "volume_stamp": "sampling.volume_opening",
    "is_step": "sampling.time_interpolation",
    "TrainingResult": "training.volume_training",
    "TrainingState": "training.history",
    "train_samples": "training.mesh_training",
    "train_series": "training.series_training",
    "train_volume": "training.trainer",
    "MeshPieces": "data.mesh_values",
    "finest_cover": "data.mesh_values",
    "voxel_parts": "data.mask",
}

# modules that import torch
_NEED_TORCH = {
    "baselines",
    "foreign.volume",
    "training.mesh_training",
    "data.mesh_values",
    "foreign.network_writer",
    "foreign.reference_model",
    "rendering.renderer",
    "training.series_training",
    "training.trainer",
    "sampling.volume",
    "training.volume_job",
    "training.volume_training",
    "training.training_slice",
    "bricks.folder",
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
