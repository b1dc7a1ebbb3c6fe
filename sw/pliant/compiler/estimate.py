"""Estimates the cycles and the DDR traffic of a tiled layer."""

from __future__ import annotations

from pliant.compiler.cycles import (
    MATRIX_OVERHEAD,
    POST_OVERHEAD,
    TRANSFER_OVERHEAD,
    bandwidth,
    copy_cycles,
)
from pliant.compiler.geometry import Geometry
from pliant.compiler.tile import (
    Placement,
    Tiling,
    displacement_groups,
    residual_loaded,
    result_stored,
    same_inputs,
)
from pliant.spec.memory import aligned_rows, ceil_div, region_strides, round_up


def estimate(
    geometry: Geometry, placement: Placement, tiling: Tiling
) -> tuple[int, int]:
    """Return estimates for a layer: cycles and bytes moved.

    The cycles are those of the busiest unit, plus the other units' at the first and the last step,
    which nothing overlaps. Weights and parameters of the first step are taken to have been loaded
    during the layer before. Constants are measured on the RTL.
    """
    config = geometry.config
    rows, columns = geometry.rows, geometry.columns
    tiles = ceil_div(rows.outputs, tiling.tile_height) * ceil_div(columns.outputs,
                                                                  tiling.tile_width)
    bands = ceil_div(tiling.tile_height, tiling.band_height)
    channels = ceil_div(geometry.output_groups, tiling.channel_groups)
    chunks = ceil_div(geometry.input_groups, tiling.input_chunk) if geometry.matrix else 1
    parts = ceil_div(tiling.input_chunk, tiling.weight_chunk) if geometry.matrix else 1
    steps = tiles * bands * channels

    def loads(nest: dict[str, int], key: str) -> int:
        """Count the runs of equal `key` indices through the loop nest."""
        inner = max((i for i, name in enumerate(nest) if name in key.split() and nest[name] > 1),
                    default=-1)
        product = 1
        for name in list(nest)[:inner + 1]:
            product *= nest[name]
        return product

    sizes = {"tile": tiles, "band": bands, "channel": channels}
    nest = {name: sizes[name] for name in tiling.order.split("-")}
    nest |= {"chunk": chunks, "part": parts}
    input_key = "tile channel" if not geometry.matrix else (
        "tile chunk" if same_inputs(geometry) else "tile channel chunk")
    per_load = (sum(s.inputs for s in rows.split(tiling.tile_height))
                * sum(s.inputs for s in columns.split(tiling.tile_width)) * config.lanes
                * min(tiling.input_chunk, geometry.input_groups)) / tiles
    runs = 1.0
    loaded = not placement.on_chip.sources
    if geometry.matrix and (placement.on_chip.sources or geometry.sources > 1):
        share, runs = geometry.lane_groups.reading(placement.on_chip.sources)
        per_load, loaded = per_load * share, share > 0
    input_loads = loads(nest, input_key) if loaded else 0
    weight_loads = weight_bytes = 0
    if geometry.matrix:
        resident = tiling.weights_resident
        weight_loads = channels if resident else loads(nest, "channel chunk part")
        groups = geometry.input_groups if resident else tiling.weight_chunk
        weight_bytes = groups * geometry.group_words * config.cols
    elif geometry.depthwise:
        weight_loads = channels if tiling.weights_resident else loads(nest, "channel")
        weight_bytes = geometry.tap_words(tiling.channel_groups) * 4 * config.lanes
    pixels = tiling.band_height * tiling.tile_width
    zoom = geometry.zoom**2
    out_bytes = pixels * tiling.channel_groups * config.lanes * zoom
    residual, stored = residual_loaded(geometry, placement), result_stored(placement)
    outputs = geometry.output_groups * rows.outputs * columns.outputs
    copies = 0
    if geometry.displacement_groups:  # for the post unit, a tile's offsets serve all channels
        copies = tiles * bands if geometry.displaced else loads(nest, "tile band")
    displacements = displacement_groups(geometry, placement)
    moved = (input_loads * per_load + weight_loads * weight_bytes
             + outputs * config.lanes * (stored * zoom + residual)
             + copies * pixels * displacements * config.lanes)
    transfers = (input_loads * bands + weight_loads + steps * (stored + residual)
                 + copies * (displacements > 0))
    bytes_per_cycle = bandwidth(config)
    memory = moved / bytes_per_cycle + transfers * TRANSFER_OVERHEAD
    first_bytes = (_first_band(geometry, placement, tiling) if geometry.displaced
                   else loaded * per_load / bands)
    first_load = (first_bytes / bytes_per_cycle + config.board.ddr_latency_cycles
                  if first_bytes else 0.0)
    last_store = stored * out_bytes / bytes_per_cycle

    whole, rest = divmod(geometry.output_groups, tiling.channel_groups)
    row_cycles = sum(whole * geometry.row_cycles(part.outputs, tiling.channel_groups)
                     + (geometry.row_cycles(part.outputs, rest) if rest else 0)
                     for part in columns.split(tiling.tile_width))
    post: float = rows.outputs * row_cycles + steps * POST_OVERHEAD
    if not geometry.matrix and tiling.input_slots == 1:  # nothing is loaded ahead
        post += max(0, input_loads - 1) * first_load
    matrix = 0.0
    if geometry.matrix:
        passes = geometry.taps * geometry.input_groups
        heights = [band.outputs for tile in rows.split(tiling.tile_height)
                   for band in rows.split(tiling.band_height, tile.start, tile.stop)]
        words = sum(max(height * span.outputs, config.rows) for height in heights
                    for span in columns.split(tiling.tile_width))
        matrix = channels * passes * words + steps * runs * MATRIX_OVERHEAD
        if copies:
            matrix += copies * copy_cycles(pixels * sum(geometry.displacement_groups))
        if tiling.input_slots == 1 and input_loads > 1:
            matrix += input_loads * per_load / bytes_per_cycle  # nothing is loaded ahead
    compute = matrix / steps + post / steps
    cycles = max(memory + compute, matrix + first_load + post / steps + last_store,
                 post + first_load + matrix / steps + last_store)
    return int(cycles), int(moved)


def _first_band(geometry: Geometry, placement: Placement, tiling: Tiling) -> int:
    """Return the bytes that the first instruction with displaced taps waits for."""
    rows, columns = geometry.rows.split(tiling.tile_height)[0], geometry.columns
    band = geometry.rows.span(0, min(tiling.band_height, rows.outputs))
    words = 0
    if not placement.on_chip.sources:
        across = columns.split(tiling.tile_width)[0].inputs
        words += _loaded_rows(band.last - rows.first, rows.inputs, across) * across * min(
            tiling.channel_groups, geometry.output_groups)
    across = round_up(tiling.tile_width, geometry.config.words_per_beat)
    words += (_loaded_rows(band.outputs, rows.outputs, across) * across
              * displacement_groups(geometry, placement))
    return words * geometry.config.lanes


def _loaded_rows(needed: int, rows: int, columns: int) -> int:
    """Return how many of a region's rows are loaded for the first `needed`."""
    return min(rows, round_up(needed, aligned_rows(region_strides(rows, columns)[1])))
