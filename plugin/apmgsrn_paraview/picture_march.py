"""The picture that a proxy shows: marched whole or pass by pass, by one process or by all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import apmgsrn_core as core
from apmgsrn_core import Communicator

LOOK = 0.5  # seconds between two looks at whether the user has stopped the work
IN_PARTS = ("composite", "isosurface", "maximum")  # modes in which the picture follows from those of the parts


@dataclass(frozen=True)
class Scene:
    """All that a picture follows from.

    Attributes:
        volume: Whatever has the sampling interface of `apmgsrn_core.NeuralVolume`.
        field: Name of the array.
        time: Of the time step, or None.
        camera, function, options: As the core's renderer takes them.
    """

    volume: Any
    field: str
    time: float | None
    camera: Any
    function: Any
    options: Any


class PictureMarch:
    """One picture at a time. `advance` is collective.

    Attributes:
        picture: The newest one; on all ranks but the first None.
        finished: Whether it is as good as it gets.
        pass_number: How many passes were made for it.
    """

    def __init__(self, communicator: Communicator):
        self._communicator = communicator
        self._key = self._scene = self._parts = self._passes = self._mine = None
        self._renderer = self._rendered = None
        self.picture, self.finished, self.pass_number = None, True, 0

    def holds(self, key) -> bool:
        """Whether the picture of this key is there, finished."""
        return self.finished and self._key is not None and self._key == key

    def forget(self) -> None:
        """Begin anew next time."""
        self._key = self._passes = self.picture = self._mine = None
        self.finished = True

    def advance(
        self, key, make_scene: Callable[[], Scene], progressive: bool, seconds: float, on_progress: Callable[[float], None]
    ) -> None:
        """Make the next pass of a picture, or all of it.

        Args:
            key: Equal keys have equal pictures; it changes on all ranks at once.
            make_scene: Called when the key is new.
            progressive: Whether passes are wanted; on one of the ranks is enough.
            seconds: That a pass may take, about.
            on_progress: Takes the share of this rank's part that is done; may raise an ApmgsrnError to stop.

        Raises:
            ApmgsrnError: On all ranks when one fails; the next call begins anew.
        """
        team = self._communicator
        try:
            if self._key is None or key != self._key:
                self.forget()
                in_passes = any(team.everywhere(progressive))
                self._scene = team.together(make_scene)
                self._passes = self._march(self._scene, in_passes, seconds, on_progress)
                self._key, self.pass_number = key, 0
            last = team.together(self._take_pass)
            self.picture = self._put_together()
        except Exception:
            self.forget()
            raise
        self.pass_number += 1
        self.finished = all(team.everywhere(last))

    def use_idle_time(self, seconds: float) -> None:
        """For about so long, make the next pictures quicker, where it is likely to pay. Of one process: ranks rest together only.

        Raises:
            ApmgsrnError: The model cannot be read any more.
        """
        renderer = self._renderer if self._communicator.size == 1 and self.finished else None
        if renderer is not None and renderer.worth_sharpening:
            renderer.sharpen(seconds)

    def _march(self, scene: Scene, in_passes: bool, seconds: float, on_progress) -> Iterator:
        """The pictures of this rank's part of the scene, the last one finished; none when it has no part."""
        rank, size = self._communicator.rank, self._communicator.size
        self._parts = [()] + [None] * (size - 1)
        if size > 1 and scene.options.mode in IN_PARTS and not scene.options.preintegrated:  # which needs two samples
            self._parts = core.parts_of_ranks(scene.volume.layout, scene.volume.grid, size)
        part = self._parts[rank]
        if part is None:
            return
        renderer = self._renderer_of(scene)
        if scene.options.mode == "isosurface":  # of two samples with a face between them one part must have both
            part = [_moved_out(plane, renderer.step_of(scene.options)) for plane in part]
        options = replace(scene.options, clip_planes=(*scene.options.clip_planes, *part))
        picture = None
        for picture in renderer.passes(scene.camera, scene.function, options, seconds if in_passes else LOOK):
            on_progress(picture.share)
            if in_passes:
                yield picture
        if not in_passes:
            yield picture

    def _renderer_of(self, scene: Scene):
        """The renderer of a volume, kept while volume, field and time stay: it knows where there is something."""
        wanted = scene.volume, scene.field, scene.time
        if self._rendered is None or self._rendered[0] is not wanted[0] or self._rendered[1:] != wanted[1:]:
            self._renderer, self._rendered = core.VolumeRenderer(*wanted), wanted
        return self._renderer

    def _take_pass(self) -> bool:
        """Make this rank's next pass; returns whether it was the last one."""
        picture = next(self._passes, None)
        if picture is None:
            return True
        self._mine = picture
        return picture.share >= 1.0

    def _put_together(self):
        """The picture of all parts, on the first rank; None on the others."""
        team, mine = self._communicator, self._mine
        if team.size == 1:
            return mine
        sent = [] if mine is None else [mine.rgba, mine.depth, np.array([mine.samples, mine.share])]
        if mine is not None and mine.largest is not None:
            sent.append(mine.largest)
        incoming = team.exchange([sent] + [[] for _ in range(team.size - 1)])

        def compose():
            if team.rank:
                return None
            pictures = [core.Picture(p[0], p[1], int(p[2][0]), float(p[2][1]), *p[3:]) if p else None for p in incoming]
            scene = self._scene
            return core.composite(pictures, self._parts, scene.camera, scene.options.mode == "isosurface")

        return team.together(compose)


def _moved_out(plane: tuple, length: float) -> tuple:
    """A plane (x, y, z, nx, ny, nz) moved against its normal, which has unit length."""
    return (*(place - length * part for place, part in zip(plane[:3], plane[3:])), *plane[3:])
