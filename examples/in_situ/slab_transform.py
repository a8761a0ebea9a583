"""Fourier transforms of periodic fields that are cut into slabs, one for each rank.

In space a rank has some planes z of all points; of a spectrum it has some columns ky of all kz and kx. Between the two every
rank sends a block to every other one (MPI_Alltoallv), as FFTW's parallel transforms do (M. Frigo, S. G. Johnson: *The Design
and Implementation of FFTW3*, Proc. IEEE 93(2), 2005).
"""

from __future__ import annotations

import numpy as np


def share(count: int, parts: int, part: int) -> tuple[int, int]:
    """(first, stop) of the planes of one part; the first parts have one more where the count does not divide."""
    least, more = divmod(count, parts)
    first = part * least + min(part, more)
    return first, first + least + (part < more)


class SlabTransform:
    """Real transforms along x, y and z.

    Args:
        points: Along each side, N.
        communicator: Of mpi4py; None: this process has everything.

    Attributes:
        planes: (first, stop) of this rank's planes z in space.
        columns: (first, stop) of its columns ky of a spectrum.

    Raises:
        ValueError: Fewer than four points, or fewer than ranks.
    """

    def __init__(self, points: int, communicator=None):
        rank, size = (0, 1) if communicator is None else (communicator.Get_rank(), communicator.Get_size())
        if points < max(4, size):
            raise ValueError(f"points: expected at least {max(4, size)} (four, and one plane for each rank), found {points}")
        self.points, self.communicator = points, communicator
        self._shares = [share(points, size, other) for other in range(size)]
        self.planes = self.columns = self._shares[rank]

    def wave_numbers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """kx, ky, kz of this rank's part of a spectrum, each to be broadcast against [kz, ky, kx]."""
        whole = np.fft.fftfreq(self.points, 1 / self.points)
        half = np.arange(self.points // 2 + 1.0)
        return half[None, None, :], whole[slice(*self.columns)][None, :, None], whole[:, None, None]

    def forward(self, fields: np.ndarray) -> np.ndarray:
        """Fields [c, z of this rank, y, x] to their spectra [c, kz, ky of this rank, kx], which are means at k = 0."""
        spectra = np.fft.fft(np.fft.rfft(fields, axis=3), axis=2)
        blocks = [spectra[:, :, first:stop] for first, stop in self._shares]
        spectra = np.concatenate(self._exchange(blocks, axis=1), axis=1)
        return np.fft.fft(spectra, axis=1) / self.points**3

    def backward(self, spectra: np.ndarray) -> np.ndarray:
        """Spectra [c, kz, ky of this rank, kx] to their fields [c, z of this rank, y, x]."""
        fields = np.fft.ifft(spectra, axis=1)
        blocks = [fields[:, first:stop] for first, stop in self._shares]
        fields = np.concatenate(self._exchange(blocks, axis=2), axis=2)
        return np.fft.irfft(np.fft.ifft(fields, axis=2), n=self.points, axis=3) * self.points**3

    def _exchange(self, blocks: list[np.ndarray], axis: int) -> list[np.ndarray]:
        """Give the n-th block to the n-th rank; those that come differ along an axis, on which each rank has its share."""
        if len(blocks) == 1:
            return blocks
        shapes = []
        for first, stop in self._shares:
            shape = list(blocks[self.communicator.Get_rank()].shape)
            shape[axis] = stop - first
            shapes.append(tuple(shape))
        sent = np.concatenate([block.ravel() for block in blocks])
        counts = [int(np.prod(shape)) for shape in shapes]
        come = np.empty(sum(counts), dtype=sent.dtype)
        self.communicator.Alltoallv([sent, [block.size for block in blocks]], [come, counts])
        return [part.reshape(shape) for part, shape in zip(np.split(come, np.cumsum(counts)[:-1]), shapes)]
