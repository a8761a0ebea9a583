"""What follows from the first derivatives of a field at points: of a vector's Jacobian, of a scalar's gradient.

J[i, j] = d u_i / d x_j, all computed in float64. The conventions are those of `vtkGradientFilter`, ParaView's Gradient.
"""

from __future__ import annotations

import numpy as np

from ..errors import DataError


def divergence(jacobian: np.ndarray) -> np.ndarray:
    """The trace of J: (n, 3, 3) -> (n,) float64, in the vector's unit per length unit.

    Raises:
        DataError: Another shape.
    """
    return np.trace(_jacobian(jacobian), axis1=1, axis2=2)


def vorticity(jacobian: np.ndarray) -> np.ndarray:
    """The curl: (n, 3, 3) -> (n, 3) float64, in the vector's unit per length unit.

    (dw/dy - dv/dz, du/dz - dw/dx, dv/dx - du/dy).

    Raises:
        DataError: Another shape.
    """
    j = _jacobian(jacobian)
    return np.stack([j[:, 2, 1] - j[:, 1, 2], j[:, 0, 2] - j[:, 2, 0], j[:, 1, 0] - j[:, 0, 1]], axis=1)


def q_criterion(jacobian: np.ndarray) -> np.ndarray:
    """Where rotation outweighs strain: (n, 3, 3) -> (n,) float64, in the squared unit of the vorticity.

    Q = (|Omega|^2 - |S|^2) / 2 with the halves Omega = (J - J^T) / 2 and S = (J + J^T) / 2 of J = Omega + S and the
    Frobenius norm. It is -tr(J J) / 2, which is how `vtkGradientFilter` (VTK 9) computes it; in a flow with a divergence
    that is less by its square / 2 than the second invariant of J.

    Raises:
        DataError: Another shape.

    Source: Hunt, Wray and Moin 1988, Center for Turbulence Research, report CTR-S88; Jeong and Hussain 1995, J. Fluid
    Mech. 285, section 2.
    """
    j = _jacobian(jacobian)
    return -0.5 * np.einsum("nij,nji->n", j, j)


def _jacobian(jacobian: np.ndarray) -> np.ndarray:
    jacobian = np.asarray(jacobian, dtype=np.float64)
    if jacobian.ndim != 3 or jacobian.shape[1:] != (3, 3):
        raise DataError(f"Jacobian: expected shape (n, 3, 3) of a vector with 3 components, found {jacobian.shape}")
    return jacobian
