"""Cuts a layer into tiles that fit the buffers: the fastest by estimate, then the least traffic.

Outputs are cut into input tiles (what is loaded at once), these into bands (rows that fit an
accumulator bank), and output channels into tiles of ``cols``. Input channels are cut into chunks
when input tile or weights do not fit otherwise; the matrix unit then accumulates. For windows of
the post unit a tile is one band, unless taps are displaced, so that bands share a wide border.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pliant.compiler.errors import CompileError
from pliant.compiler.estimate import estimate
from pliant.compiler.geometry import Geometry, halvings
from pliant.compiler.tile import (
    Placement,
    Tiling,
    displacement_groups,
    residual_loaded,
    result_stored,
    same_inputs,
    weights_resident,
)
from pliant.spec.config import FEATURE_BANKS
from pliant.spec.isa import Load, Matrix, fields
from pliant.spec.memory import ceil_div, region_strides, round_up

ORDERS = ("tile-band-channel", "tile-channel-band", "channel-tile-band")
"""Loop nests, outermost first; chunks of input channels are always innermost."""

MAX_INPUT_SLOTS = 4
"""For windows of the post unit, whose inputs are loaded in small pieces; else there are two."""
MAX_OUTPUT_SLOTS = 4
WIDTHS_TRIED = 2
STEP_GAIN = 2e-4
"""Share of the cycles that a pixel more in a companion's step is taken to be worth."""
SHARED_WEIGHTS = 8
"""Part of the weight buffer that one of two layers takes at a time. Each holds two such, or a
quarter that stays: wherever these stand, what is left has a gap for the next one."""
PARAMETER_SHARES = 4
"""Parts of the parameter buffer of which one holds the records of displaced taps: two layers may
then load those of their next instruction beside those in use."""

_LIMITS = {field.name: field.maximum for field in fields(Load)}
_MATRIX = {field.name: field for field in fields(Matrix)}
_MAX_GROUPS = _MATRIX["groups"].maximum


def choose_tiling(geometry: Geometry, placement: Placement | None = None) -> Tiling:
    """Return the tiling with the fewest estimated cycles, of these with the least DDR traffic.

    Parameters
    ----------
    geometry : Geometry
        What is to be cut.
    placement : Placement or None
        All tensors in DDR and the whole feature buffer if None.

    Raises
    ------
    CompileError
        Nothing fits; names the buffer, what the smallest tile needs and what there is.
    """
    if placement is None:
        placement = Placement(depth=geometry.config.feature_depth)
    _check_weights(geometry, placement)
    _check_displacements(geometry)
    best: Tiling | None = None
    for candidate in _candidates(geometry, placement):
        if best is None or _cost(candidate, placement) < _cost(best, placement):
            best = candidate
    if best is None:
        raise _does_not_fit(geometry)
    return best


def _cost(tiling: Tiling, placement: Placement) -> tuple[float, int, int]:
    """Return what to minimise; long steps count for cycles where a layer runs beside others.

    Accumulators then hold what the matrix unit does while the post unit is busy elsewhere.
    """
    pixels = tiling.band_height * tiling.tile_width if placement.companion else 0
    return tiling.cycles * (1 - STEP_GAIN * pixels), tiling.cycles, tiling.traffic


def _check_weights(geometry: Geometry, placement: Placement) -> None:
    if placement.matrices > 1 and geometry.matrix and (
            geometry.group_words * SHARED_WEIGHTS > geometry.config.weight_depth):
        raise CompileError(geometry.operation.name, "its weights leave no room for another layer's",
                           "compute one after the other")
    if geometry.matrix and geometry.group_words > geometry.config.weight_depth:
        kernel = geometry.operation.window.kernel
        raise CompileError(
            geometry.operation.name,
            f"its {kernel[0]}x{kernel[1]} kernel takes {geometry.group_words} words of the weight "
            f"buffer for one lane group, weight_depth of {geometry.config.name!r} is "
            f"{geometry.config.weight_depth}",
            "use a smaller kernel, int4 weights or a configuration with a larger weight_depth")
    if geometry.depthwise and geometry.patches > geometry.config.tap_depth:
        kernel = geometry.operation.window.kernel
        raise CompileError(
            geometry.operation.name,
            f"its {kernel[0]}x{kernel[1]} kernel takes {geometry.patches} words of the tap buffer "
            f"for one lane group, tap_depth of {geometry.config.name!r} is "
            f"{geometry.config.tap_depth}",
            "use a smaller kernel or a configuration with a larger tap_depth")


def _check_displacements(geometry: Geometry) -> None:
    config, layer = geometry.config, geometry.operation.name
    if geometry.operation.sampling is None:
        return
    if not config.offset_depth:
        raise CompileError(layer, f"it is deformable, {config.name!r} has no offset memory",
                           "use a configuration with an offset_depth")
    for groups, name in zip(geometry.displacement_groups, ("offset_groups", "mask_groups"),
                            strict=False):
        if groups > _MATRIX[name].maximum:
            kernel = geometry.operation.window.kernel
            raise CompileError(
                layer, f"its {kernel[0]}x{kernel[1]} kernel takes {name} = {groups} lane groups of "
                f"{config.lanes}, allowed are {_MATRIX[name].maximum}",
                "use a smaller kernel or a configuration with more rows")
    if geometry.displaced:
        return  # the post unit takes a pixel's offsets from the feature buffer
    least = min(config.words_per_beat, geometry.columns.outputs)
    if geometry.most_pixels < least:
        raise CompileError(
            layer, f"the offsets of its {geometry.taps} taps take {geometry.displacement_groups} "
            f"lane groups; {least} pixels of them do not fit offset_depth = {config.offset_depth} "
            f"(half of it for masks) of {config.name!r}",
            "use a smaller kernel or a configuration with a larger offset_depth")


def _does_not_fit(geometry: Geometry) -> CompileError:
    config = geometry.config
    height, width = geometry.rows.largest(1), geometry.columns.largest(config.words_per_beat)
    pixels = config.words_per_beat
    size = region_strides(height, width)[0] + _output_size(geometry, 1, pixels, 1)
    beside = "offsets and " if geometry.displacement_groups else ""
    size += region_strides(1, pixels)[0] * sum(geometry.displacement_groups)
    return CompileError(
        geometry.operation.name,
        f"its smallest tile, {height}x{width} pixels of {config.lanes} channels, {beside}what "
        f"comes out, takes {size} addresses ({size * 4 * config.lanes} bytes) of the feature "
        f"buffer, feature_depth of {config.name!r} is {config.feature_depth} "
        f"({config.feature_bytes} bytes)",
        "use a smaller window or a configuration with a larger feature_depth")


def _candidates(geometry: Geometry, placement: Placement) -> Iterator[Tiling]:
    """Yield every tiling that fits, wide tiles first."""
    rows = geometry.rows
    outputs = placement.tile_rows or rows.outputs
    fitting_widths = 0
    for width in _widths(geometry):
        if placement.tile_rows and width < geometry.columns.outputs:
            return
        found = False
        pixels = geometry.most_pixels if geometry.matrix else _LIMITS["rows"] * width
        bands = halvings(min(outputs, pixels // width))
        banded = geometry.matrix or geometry.displaced
        for band in _balanced(outputs, bands):
            if placement.tile_rows:
                tiles = [outputs] if banded or band == outputs else []
            else:
                count = ceil_div(outputs, band)
                tiles = [min(number * band, outputs)
                         for number in (halvings(count) if banded else (1,))]
            for tile in tiles:
                for tiling in _fill(geometry, placement, width, band, tile):
                    found = True
                    yield tiling
        fitting_widths += found
        if fitting_widths == WIDTHS_TRIED:
            return  # narrower tiles only load more borders


def _widths(geometry: Geometry) -> Iterator[int]:
    """Yield tile widths: all columns, or parts that start at whole beats."""
    outputs, align = geometry.columns.outputs, geometry.config.words_per_beat
    seen = set()
    for part in halvings(outputs):
        width = part if part == outputs else round_up(part, align)
        too_wide = geometry.matrix and width > geometry.most_pixels
        if width not in seen and width <= outputs and not too_wide:
            seen.add(width)
            yield width


def _balanced(total: int, sizes: Iterator[int]) -> Iterator[int]:
    """Yield for each size the least that cuts `total` into as many pieces."""
    seen = 0
    for size in sizes:
        even = ceil_div(total, ceil_div(total, size))
        if even != seen:
            seen = even
            yield even


def _fill(
    geometry: Geometry, placement: Placement, width: int, band: int, tile: int
) -> Iterator[Tiling]:
    """Yield the tilings with these spatial sizes; chunk channels only as far as needed."""
    config = geometry.config
    height, columns = geometry.rows.largest(tile), geometry.columns.largest(width)
    outputs = geometry.zoom * max(band, width)  # more than is read, where padding is wide
    if max(height, columns, outputs) > min(_LIMITS["rows"], _LIMITS["row_beats"]):
        return
    group_size = region_strides(height, columns)[0]
    groups = geometry.input_groups if geometry.matrix else geometry.output_groups
    whole = tile >= geometry.rows.outputs and width >= geometry.columns.outputs
    for chunk in halvings(_most_groups(geometry, placement, groups)):
        if geometry.matrix and chunk < groups and tile > band:
            return  # an accumulator bank holds one band until all chunks are added
        channel_groups = config.groups_per_tile if geometry.matrix else chunk
        slots = _slots(geometry, placement, group_size * _loaded_groups(geometry, placement, chunk),
                       _output_size(geometry, band, width, channel_groups),
                       _displacement_size(geometry, placement,
                                          tile if geometry.displaced else band, width),
                       single=whole and chunk >= groups and same_inputs(geometry),
                       displaced_once=whole and geometry.displaced)
        if slots is None:
            continue
        orders = ORDERS if geometry.matrix else ORDERS[:1] if tile == band else ORDERS[1:2]
        for order in orders[:2] if placement.tile_rows else orders:  # tiles come and go once
            yield _tiling(geometry, placement, width, band, tile, chunk, channel_groups, order,
                          slots)
        return


def _most_groups(geometry: Geometry, placement: Placement, groups: int) -> int:
    """Return the most lane groups of `groups` that an instruction may take."""
    config = geometry.config
    most = min(groups, _MAX_GROUPS)
    if geometry.displaced:
        records = config.parameter_depth // PARAMETER_SHARES
        return min(most, FEATURE_BANKS, max(config.groups_per_tile, records // config.lanes))
    if not geometry.matrix and not geometry.shared_record:
        most = min(most, config.groups_per_tile)  # an instruction names cols records
    if geometry.depthwise and not weights_resident(geometry, placement, most):
        # the next taps are loaded beside those in use
        most = min(most, max(1, config.tap_depth // 2 // geometry.patches))
    return most


def _output_size(geometry: Geometry, band: int, width: int, groups: int) -> int:
    """Return the bank addresses of an output (or residual) slot."""
    columns = round_up(geometry.zoom * width, geometry.config.words_per_beat)
    return region_strides(geometry.zoom * band, columns)[0] * min(groups, geometry.output_groups)


def _displacement_size(geometry: Geometry, placement: Placement, height: int, width: int) -> int:
    """Return the bank addresses of a slot for offsets and masks of so many rows and columns."""
    columns = round_up(width, geometry.config.words_per_beat)
    return region_strides(height, columns)[0] * displacement_groups(geometry, placement)


def _slots(
    geometry: Geometry, placement: Placement, input_size: int, output_size: int,
    displacement_size: int, *, single: bool, displaced_once: bool,
) -> dict[str, int] | None:
    """Return numbers and sizes of slots, double-buffered when it fits; None when nothing does."""
    per_output = output_size * (result_stored(placement) + residual_loaded(geometry, placement))
    most = MAX_INPUT_SLOTS if not geometry.matrix else 2
    numbers = (0,) if not input_size else (1,) if single else (most, 2, 1)
    for inputs in numbers:
        displacements = 1 if inputs == 1 or displaced_once else 2
        displacements *= displacement_size > 0
        left = placement.depth - inputs * input_size - displacements * displacement_size
        outputs = min(MAX_OUTPUT_SLOTS, left // per_output) if per_output else MAX_OUTPUT_SLOTS
        if left >= 0 and outputs >= (2 if inputs >= 2 else 1):
            return {"input_slots": inputs, "input_slot_size": input_size,
                    "output_slots": outputs * result_stored(placement),
                    "residual_slots": outputs * residual_loaded(geometry, placement),
                    "output_slot_size": output_size,
                    "displacement_slots": displacements,
                    "displacement_slot_size": displacement_size}
    return None


def _loaded_groups(geometry: Geometry, placement: Placement, chunk: int) -> int:
    """Return the lane groups of a chunk that an input slot holds."""
    if geometry.matrix:
        return geometry.lane_groups.most_loaded(chunk, placement.on_chip.sources)
    return 0 if placement.on_chip.sources else chunk


def _tiling(
    geometry: Geometry, placement: Placement, width: int, band: int, tile: int, chunk: int,
    channel_groups: int, order: str, slots: dict[str, int],
) -> Tiling:
    config = geometry.config
    resident = weights_resident(geometry, placement, channel_groups)
    weight_chunk = chunk
    if geometry.matrix and not resident:
        share = 2 if placement.matrices == 1 else SHARED_WEIGHTS
        most = max(geometry.group_words, config.weight_depth // share)
        weight_chunk = min(chunk, most // geometry.group_words)
        weight_chunk = _even_part(chunk, weight_chunk)
    cut = Tiling(
        tile_height=tile, band_height=band, tile_width=width, channel_groups=channel_groups,
        input_chunk=chunk, weight_chunk=weight_chunk, order=order, weights_resident=resident,
        **slots)
    cycles, traffic = estimate(geometry, placement, cut)
    return dataclasses.replace(cut, cycles=cycles, traffic=traffic)


def _even_part(total: int, limit: int) -> int:
    """Return a part of `total`, at most `limit`: all parts equal, if this takes few more of them.

    Parts of different sizes would leave gaps in the ring that the weight buffer is.
    """
    least = ceil_div(total, limit)
    for count in range(least, min(total, least + least // 2 + 1) + 1):
        if total % count == 0:
            return total // count
    return ceil_div(total, least)


