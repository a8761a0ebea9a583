"""render: renders a model straight from its networks and writes a PNG.

Without --position the camera looks at the whole volume from --azimuth and --elevation. The transfer function is given by
--colours and --opacities, or by --transfer-function; without them blue to red, and opacity rising over the range."""

from __future__ import annotations

import argparse
from dataclasses import replace
from time import perf_counter

from ..errors import ConfigError
from ..file.model_writer import write_bytes
from ..rendering.camera import Camera
from ..rendering.render_options import RenderOptions
from ..validation import check
from .arguments import (
    add_config_arguments,
    add_model_arguments,
    add_quiet_argument,
    array_of,
    checked_output,
    given_fields,
    opened,
    progress,
)  # fmt: skip
from .opacity_and_colour import add_function_arguments, transfer_function
from .volume_files import array_bytes

BY_HAND = ("background", "clip_box", "clip_planes")
AROUND, EXACT = ("azimuth", "elevation", "zoom"), ("focal_point", "view_up", "view_angle")
PASS_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Camera, transfer function, and every field of the options."""
    add_model_arguments(parser, between=False)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the picture, .png; the row at the top first")
    parser.add_argument("--depth", metavar="FILE", help="also the depths, .npy [height, width], the row at the top first")
    add_quiet_argument(parser)
    group = parser.add_argument_group("the camera")
    group.add_argument("--size", nargs=2, type=int, default=(512, 512), metavar=("W", "H"), help="pixels (default: 512 512)")
    group.add_argument("--azimuth", type=float, help="degrees around z (default: 30)")
    group.add_argument("--elevation", type=float, help="degrees above the plane of x and y (default: 20)")
    group.add_argument("--zoom", type=float, help="above 1 the volume is larger than the picture (default: 1)")
    group.add_argument("--position", nargs=3, type=float, metavar=("X", "Y", "Z"), help="of the eye, in place of the three above")
    group.add_argument("--focal-point", nargs=3, type=float, metavar=("X", "Y", "Z"), help="default: the middle of the volume")
    group.add_argument("--view-up", nargs=3, type=float, metavar=("X", "Y", "Z"), help="default: 0 0 1")
    group.add_argument("--view-angle", type=float, help="vertical, in degrees (default: 30)")
    group.add_argument("--parallel-scale", type=float, help="parallel projection; half of the height in the world")
    add_function_arguments(parser)
    add_config_arguments(parser, "the picture", RenderOptions, BY_HAND)
    group = parser.add_argument_group("what is behind and what is cut off")
    group.add_argument("--background", nargs=3, type=float, metavar=("R", "G", "B"), help="0 to 1 (default: transparent)")
    group.add_argument("--clip-box", nargs=6, type=float, metavar=("X0", "X1", "Y0", "Y1", "Z0", "Z1"), help="show only this box")
    group.add_argument("--clip-plane", nargs=6, type=float, action="append", dest="clip_planes",
                       metavar=("X", "Y", "Z", "NX", "NY", "NZ"),
                       help="show only the side of the normal; may be repeated")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Render and write."""
    from .. import VolumeRenderer, rendered_array

    checked_output(options.output, ".png")
    if options.depth is not None:
        checked_output(options.depth, ".npy")
    chosen = RenderOptions(**given_fields(options, RenderOptions))
    volume = opened(options)
    camera = _camera(options, volume.grid.bounds)
    array_of(volume, options.array)  # the first one, or the one that is named
    function = transfer_function(options, rendered_array(volume, options.array, options.time), volume.grid)
    start, picture = perf_counter(), None
    with progress("rendering", options.quiet) as report:
        for picture in VolumeRenderer(volume, options.array, options.time).passes(camera, function, chosen, PASS_SECONDS):
            report(picture.share)
    seconds = perf_counter() - start
    picture.save(options.output)
    if options.depth is not None:
        write_bytes(options.depth, array_bytes(picture.depth[::-1]))
    print(f"{options.output}: {camera.size[0]} x {camera.size[1]}, {picture.samples} samples, {seconds:.2f} s")


def _camera(options: argparse.Namespace, bounds: tuple[float, ...]) -> Camera:
    """The camera of the options. Raises ConfigError for options of both kinds."""
    check(min(options.size) >= 1, "--size", "pixels from 1 on", tuple(options.size))
    given = [name for name in AROUND + EXACT if getattr(options, name) is not None]
    useless = [name for name in given if name in (AROUND if options.position else EXACT[:2])]
    if useless:
        word = "without" if options.position else "with"
        raise ConfigError(f"--{useless[0].replace('_', '-')}: expected only {word} --position")
    if options.position:
        middle = tuple((a + b) / 2 for a, b in zip(bounds[::2], bounds[1::2]))
        camera = Camera(
            tuple(options.position), tuple(options.focal_point or middle), tuple(options.view_up or (0, 0, 1)),
            size=tuple(options.size),
        )  # fmt: skip
    else:
        around = {name: getattr(options, name) for name in AROUND if name in given}
        camera = Camera.looking_at(bounds, size=tuple(options.size), **around)
    angle = camera.view_angle if options.view_angle is None else options.view_angle
    return replace(camera, view_angle=angle, parallel_scale=options.parallel_scale)
