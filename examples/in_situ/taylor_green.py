"""The Taylor-Green vortex: a pseudo-spectral solver of the incompressible Navier-Stokes equations in a periodic box.

    du/dt = u x w - grad(p + |u|^2 / 2) + (1 / Re) laplace(u),   div u = 0,   w = curl u,   0 <= x, y, z < 2 pi

from u = (sin x cos y cos z, -cos x sin y cos z, 0): G. I. Taylor, A. E. Green: *Mechanism of the Production of Small Eddies
from Large Ones*, Proc. R. Soc. A 158, 1937; M. E. Brachet et al.: *Small-scale structure of the Taylor-Green vortex*, J. Fluid
Mech. 130, 1983. Products are made in space, without their aliases (2/3 rule: S. A. Orszag, J. Atmos. Sci. 28, 1971), gradients
and the pressure on the spectrum; in time it is Runge-Kutta's fourth order with the viscous term as an exact factor (C. Canuto
et al.: *Spectral Methods in Fluid Dynamics*, 1988). So the energy changes by -2 enstrophy / Re and nothing else.
"""

from __future__ import annotations

import numpy as np
from slab_transform import SlabTransform


def vortex(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple:
    """Velocity (u, v, w) of Taylor and Green's vortex at the start."""
    return np.sin(x) * np.cos(y) * np.cos(z), -np.cos(x) * np.sin(y) * np.cos(z), 0 * (x + y + z)


def flat_vortex(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple:
    """Velocity of their vortex in two dimensions, which stays as it is and decays as exp(-2 t / Re)."""
    return np.sin(x) * np.cos(y) + 0 * z, -np.cos(x) * np.sin(y) + 0 * z, 0 * (x + y + z)


class TaylorGreen:
    """A flow as it develops; every rank has a slab of it.

    Args:
        points: Along each side, N; wave numbers below N / 3 are kept.
        reynolds: Re, of a box of 2 pi and the largest velocity at the start.
        communicator: Of mpi4py; None: this process has everything.
        start: Gives the velocity (u, v, w) at coordinates x, y, z.

    Attributes:
        time: Since the start.
        steps: Since the start.

    Raises:
        ValueError: A number cannot be.
    """

    def __init__(self, points: int, reynolds: float, communicator=None, start=vortex):
        if not 0 < reynolds < np.inf:
            raise ValueError(f"reynolds: expected a number above 0, found {reynolds}")
        self.transform, self.communicator = SlabTransform(points, communicator), communicator
        self.points, self.reynolds, self.time, self.steps = points, reynolds, 0.0, 0
        self._waves = self.transform.wave_numbers()
        kx, ky, kz = self._waves
        self._square = kx**2 + ky**2 + kz**2
        self._kept = (np.maximum(np.maximum(abs(kx), abs(ky)), abs(kz)) < points / 3) * 1.0
        # A spectrum of real fields is half of the whole one: of a pair kx, -kx it has one, and that counts twice.
        self._weights = np.where((kx == 0) | (2 * kx == points), 1.0, 2.0)
        line = 2 * np.pi / points * np.arange(points)
        x, y, z = line[None, None, :], line[None, :, None], line[slice(*self.planes)][:, None, None]
        self.set_velocity(np.stack(start(x, y, z)))

    @property
    def planes(self) -> tuple[int, int]:
        """(first, stop) of this rank's planes of points along z."""
        return self.transform.planes

    def velocity(self) -> np.ndarray:
        """u, v, w at [c, z of this rank, y, x]."""
        return self.transform.backward(self._spectrum)

    def vorticity(self) -> np.ndarray:
        """The curl of the velocity at [c, z of this rank, y, x]."""
        return self.transform.backward(self._curl(self._spectrum))

    def set_velocity(self, velocity: np.ndarray) -> None:
        """Go on from a velocity [c, z of this rank, y, x]; what of it has a divergence or is too fine is taken away."""
        self._spectrum = self._without_divergence(self.transform.forward(velocity)) * self._kept

    def energy(self) -> float:
        """Kinetic, |u|^2 / 2, the mean over the box; the same on all ranks."""
        return self._mean_square(self._spectrum) / 2

    def enstrophy(self) -> float:
        """|w|^2 / 2, the mean over the box; the same on all ranks."""
        return self._mean_square(self._curl(self._spectrum)) / 2

    def divergence(self) -> float:
        """The root of the mean square of div u."""
        return self._mean_square(self._divergence(self._spectrum)[None]) ** 0.5

    def step(self, length: float) -> None:
        """Go on by a time. Raises FloatingPointError: the flow is no longer finite, the step is too long."""
        half = np.exp(-self._square / self.reynolds * length / 2)
        start, rate = self._spectrum, self._rate
        first = rate(start)
        second = rate(half * (start + length / 2 * first))
        third = rate(half * start + length / 2 * second)
        fourth = rate(half**2 * start + length * half * third)
        self._spectrum = half**2 * start + length / 6 * (half**2 * first + 2 * half * (second + third) + fourth)
        self.steps += 1
        self.time = round(self.time + length, 12)  # tenths stay tenths
        if not np.isfinite(self.energy()):
            raise FloatingPointError(f"time step {length:g}: expected a finite flow, found none at time {self.time:g}")

    def _rate(self, spectrum: np.ndarray) -> np.ndarray:
        """The spectrum of u x w without its gradient part, which the pressure takes away."""
        back = self.transform.backward(np.concatenate([spectrum, self._curl(spectrum)]))
        product = self.transform.forward(np.cross(back[:3], back[3:], axis=0))
        return self._without_divergence(product) * self._kept

    def _divergence(self, spectrum: np.ndarray) -> np.ndarray:
        kx, ky, kz = self._waves
        return 1j * (kx * spectrum[0] + ky * spectrum[1] + kz * spectrum[2])

    def _curl(self, spectrum: np.ndarray) -> np.ndarray:
        (kx, ky, kz), (u, v, w) = self._waves, spectrum
        return 1j * np.stack([ky * w - kz * v, kz * u - kx * w, kx * v - ky * u])

    def _without_divergence(self, spectrum: np.ndarray) -> np.ndarray:
        potential = -self._divergence(spectrum) / np.where(self._square == 0, 1.0, self._square)
        return spectrum - 1j * np.stack([k * potential for k in self._waves])

    def _mean_square(self, spectrum: np.ndarray) -> float:
        """Of the fields of a spectrum, by Parseval's theorem."""
        mine = float((self._weights * (spectrum.real**2 + spectrum.imag**2)).sum())
        return mine if self.communicator is None else self.communicator.allreduce(mine)
