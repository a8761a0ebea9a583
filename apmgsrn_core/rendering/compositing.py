"""Sort-last compositing: each rank renders the part of the volume that its bricks fill, and the pictures are put over each other.

The parts are cut by planes through the lattice, so along every ray each of them is one interval, and the intervals do
not overlap: their order is that in which the ray enters them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..brick_layout import BrickLayout
from ..errors import DataError
from ..grid import Grid
from .camera import Camera
from .picture import Picture
from .ray_box import behind_planes

ROWS = 1 << 16  # pixels put together at a time

Planes = tuple[tuple[float, ...], ...]


def parts_of_ranks(layout: BrickLayout, grid: Grid, size: int) -> list[Planes | None]:
    """The part of the volume that each of so many ranks renders.

    Args:
        layout: The bricks. Where there are fewer than ranks, a brick is rendered by several of them.
        grid: The lattice of the model.
        size: Number of ranks.

    Returns:
        For each rank the planes that bound its part, (x, y, z, nx, ny, nz) each with the normal to the inside, as
        `RenderOptions.clip_planes`; None: it has no part (more ranks than intervals between values).
    """
    if layout.count < size:
        layout = BrickLayout.automatic(layout.dims, least_bricks=size)
    ranks = layout.ranks(size)
    return [_planes(layout, grid, np.flatnonzero(ranks == rank)) for rank in range(size)]


def _planes(layout: BrickLayout, grid: Grid, bricks: np.ndarray) -> Planes | None:
    """The planes between a box of bricks and its neighbours."""
    if not bricks.size:
        return None
    places = np.array([layout.place(int(brick)) for brick in bricks])
    middle = (np.array(grid.dims) - 1) / 2
    shift = 0.0 if grid.association == "point" else 0.5  # faces count values, index coordinates points
    planes = []
    for axis in range(3):
        for face, outer, side in ((places[:, axis].min(), 0, 1.0), (places[:, axis].max() + 1, layout.counts[axis], -1.0)):
            if face == outer:
                continue
            index = middle.copy()
            index[axis] = layout.faces[axis][face] + shift
            normal = side * grid.world_slopes(index[None])[0, axis]
            planes.append((*grid.index_to_world(index[None])[0].tolist(), *(normal / np.linalg.norm(normal)).tolist()))
    return tuple(planes)


def composite(
    pictures: Sequence[Picture | None], parts: Sequence[Planes | None], camera: Camera, of_surfaces: bool = False
) -> Picture:
    """Put the pictures of the parts of a volume over each other, the nearest first along each ray.

    Args:
        pictures: Of the parts, with transparent backgrounds; None: a part that nothing was rendered of.
        parts: The planes that bound each of them, see `parts_of_ranks`.
        camera: That they were rendered with.
        of_surfaces: Whether they show surfaces.

    Returns:
        The picture of the whole. A ray's depth is the mean of those of the parts by their share of the colour, that of the
        first part for surfaces. Of pictures of maxima each pixel is that of the part with the largest value.

    Raises:
        DataError: A picture has another size than the camera.

    Source: Molnar et al. 1994, A sorting classification of parallel rendering, IEEE CG&A 14(4); the operator "over" of
    Porter and Duff 1984.
    """
    found = [(picture, part) for picture, part in zip(pictures, parts) if picture is not None and part is not None]
    width, height = camera.size
    for picture, _ in found:
        if picture.rgba.shape != (height, width, 4):
            raise DataError(f"picture: expected {width} x {height} pixels, found {picture.rgba.shape[1::-1]}")
    share = min((picture.share for picture, _ in found), default=1.0)
    samples = sum(picture.samples for picture, _ in found)
    if found and all(picture.largest is not None for picture, _ in found):
        return _largest([picture for picture, _ in found], samples, share)
    rgba = np.zeros((height * width, 4), dtype=np.float32)
    depth = np.full(height * width, np.nan, dtype=np.float32)
    for first in range(0, height * width, ROWS):
        pixels = np.arange(first, min(first + ROWS, height * width))
        if found:
            rgba[pixels], depth[pixels] = _over(found, camera, pixels, of_surfaces)
    return Picture(rgba.reshape(height, width, 4), depth.reshape(height, width), samples, share)


def _largest(pictures: list[Picture], samples: int, share: float) -> Picture:
    """Of each pixel the picture with the largest value."""
    values = np.stack([picture.largest for picture in pictures])
    which = values.argmax(axis=0)[None]

    def chosen(planes: list[np.ndarray]) -> np.ndarray:
        stacked = np.stack(planes)
        return np.take_along_axis(stacked, which.reshape(which.shape + (1,) * (stacked.ndim - which.ndim)), axis=0)[0]

    rgba, depth = chosen([picture.rgba for picture in pictures]), chosen([picture.depth for picture in pictures])
    return Picture(rgba, depth, samples, share, values.max(axis=0))


def _over(found: list, camera: Camera, pixels: np.ndarray, of_surfaces: bool) -> tuple[np.ndarray, np.ndarray]:
    """Straight (n, 4) colours and (n,) depths of some pixels."""
    origins, directions = camera.rays(pixels)
    entered = np.stack([behind_planes(origins, directions, part)[0] for _, part in found])
    order = np.argsort(entered, axis=0, kind="stable")
    layers = np.stack([picture.rgba.reshape(-1, 4)[pixels] for picture, _ in found]).astype(np.float64)
    depths = np.stack([picture.depth.ravel()[pixels] for picture, _ in found])
    layers = np.take_along_axis(layers, order[..., None], axis=0)
    depths = np.take_along_axis(depths, order, axis=0)
    clear = np.cumprod(1.0 - layers[..., 3], axis=0)  # what a ray still sees behind each layer
    shares = np.concatenate([np.ones((1, len(pixels))), clear[:-1]]) * layers[..., 3]
    opacity = 1.0 - clear[-1]
    colour = (shares[..., None] * layers[..., :3]).sum(axis=0) / np.where(opacity > 0, opacity, 1.0)[:, None]
    seen = opacity > 0
    if of_surfaces:
        depth = np.take_along_axis(depths, np.argmax(shares > 0, axis=0)[None], axis=0)[0]
    else:
        depth = np.where(shares > 0, shares * depths, 0).sum(axis=0) / np.where(seen, opacity, 1.0)
    return np.column_stack([colour, opacity]) * seen[:, None], np.where(seen, depth, np.nan)
