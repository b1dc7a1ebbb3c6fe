"""Turns a tiled layer into steps: one compute instruction each, with what it needs on chip."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pliant.compiler.buffers import Arena, Buffer
from pliant.compiler.chip import ChipTensor
from pliant.compiler.displacement import Displacements
from pliant.compiler.geometry import Geometry, Span
from pliant.compiler.home import Home
from pliant.compiler.layer_buffers import LayerBuffers, region_fields
from pliant.compiler.layer_constants import LayerConstants
from pliant.compiler.memory_plan import Constants, DdrTensor, Rectangle
from pliant.compiler.operation import Reduction
from pliant.compiler.phases import PHASES
from pliant.compiler.pieces import Piece
from pliant.compiler.step import Extent, Step, StoreTask, Sums
from pliant.compiler.tile import Tiling
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Matrix, Post, Source, Store
from pliant.spec.memory import ceil_div, region_strides, round_up

_SOURCES = {Reduction.MAXIMUM: Source.MAXIMUM, Reduction.SUM: Source.SUM,
            Reduction.DEPTHWISE: Source.DEPTHWISE}


EVERY_PIXEL = 0b1111
"""Of a block of 2x2: a result is repeated."""


@dataclass(frozen=True)
class View:
    """Where an instruction finds features: a buffer, the region in it, and that region's place.

    Row `first_row` and column `first_column` of the tensor are the first of the region, which has
    `height` rows and `width` columns of it.
    """

    buffer: Buffer
    offset: int
    strides: tuple[int, int]
    height: int
    width: int
    first_row: int
    first_column: int


@dataclass(frozen=True)
class Place:
    """Indices of a step in the loop nest."""

    tile: int
    band: int
    channel: int
    chunk: int
    part: int
    last: bool


class LayerSteps:
    """Builds the steps of one layer.

    Parameters
    ----------
    geometry : Geometry
    tiling : Tiling
    homes : dict of Home by tensor name
    constants : Constants
        Weights, parameters and tables are placed here.
    layer : int
        Index of the layer.
    arena_start : int
        Bank address of the layer's slots.
    at_once : int
        Layers that are computed at the same time.

    Attributes
    ----------
    steps : list of Step
    arena : Arena
    """

    def __init__(
        self, geometry: Geometry, tiling: Tiling, homes: dict[str, Home],
        constants: Constants, *, layer: int, arena_start: int, at_once: int = 1,
    ) -> None:
        self.geometry = geometry
        self.config: AcceleratorConfig = geometry.config
        self.operation = geometry.operation
        self.tiling = tiling
        self.layer = layer
        self.sources = [homes[name] for name in self.operation.windows]
        self._resident = frozenset(
            i for i, home in enumerate(self.sources) if home.chip is not None)
        self.result = homes[self.operation.output.name]
        self.residual = homes[self.operation.inputs[-1]] if self.operation.residual else None
        self.row_tiles = geometry.rows.split(tiling.tile_height)
        self.column_tiles = geometry.columns.split(tiling.tile_width)
        self.channels = ceil_div(geometry.output_groups, tiling.channel_groups)
        placed = LayerConstants(geometry, tiling.channel_groups, constants)
        self.buffers = LayerBuffers(geometry, tiling, placed, arena_start, at_once)
        self.steps: list[Step] = []
        self._displacements = Displacements(
            geometry, [homes[name] for name in self.operation.displacements], self.buffers)
        self._sums = Sums()
        for place in self._places():
            self._add_steps(place)
        if self.result.chip is not None and self.result.ddr is not None:
            self._store_parts(self.result.chip, self.result.ddr)

    @property
    def arena(self) -> Arena:
        """The slots of the layer."""
        return self.buffers.arena

    # Loop nest

    def _places(self) -> Iterator[Place]:
        tiles = len(self.row_tiles) * len(self.column_tiles)
        chunks, parts = self._chunk_counts()
        if self.tiling.order == "channel-tile-band":
            outer = [(tile, band, channel) for channel in range(self.channels)
                     for tile in range(tiles) for band in range(len(self._bands(tile)))]
        elif self.tiling.order == "tile-channel-band":
            outer = [(tile, band, channel) for tile in range(tiles)
                     for channel in range(self.channels)
                     for band in range(len(self._bands(tile)))]
        else:
            outer = [(tile, band, channel) for tile in range(tiles)
                     for band in range(len(self._bands(tile)))
                     for channel in range(self.channels)]
        for tile, band, channel in outer:
            for chunk in range(chunks):
                for part in range(parts):
                    if self._groups(chunk, part) is not None:
                        yield Place(tile, band, channel, chunk, part,
                                    self._is_last(chunk, part, chunks, parts))

    def _chunk_counts(self) -> tuple[int, int]:
        if not self.geometry.matrix:
            return 1, 1
        return (ceil_div(self.geometry.input_groups, self.tiling.input_chunk),
                ceil_div(self.tiling.input_chunk, self.tiling.weight_chunk))

    def _groups(self, chunk: int, part: int) -> tuple[int, int] | None:
        """Return the input lane groups that a step multiplies; None when there are none left."""
        low = chunk * self.tiling.input_chunk
        high = min(low + self.tiling.input_chunk, self.geometry.input_groups)
        start = low + part * self.tiling.weight_chunk
        if start >= high:
            return None
        return start, min(start + self.tiling.weight_chunk, high)

    def _is_last(self, chunk: int, part: int, chunks: int, parts: int) -> bool:
        if chunk + 1 < chunks:
            return False
        return part + 1 == parts or self._groups(chunk, part + 1) is None

    def _tile(self, tile: int) -> tuple[Span, Span]:
        return (self.row_tiles[tile // len(self.column_tiles)],
                self.column_tiles[tile % len(self.column_tiles)])

    def _bands(self, tile: int) -> tuple[Span, ...]:
        rows, _ = self._tile(tile)
        return self.geometry.rows.split(self.tiling.band_height, rows.start, rows.stop)

    # Steps

    def _add_steps(self, place: Place) -> None:
        if self.geometry.matrix:
            self.steps += self._matrix_steps(place)
        if place.last and self.operation.phased:
            self._add_phases(place)
        elif place.last:
            self.steps.append(self._post_step(place))
            self._sums = Sums()

    def _view(
        self, step: Step, place: Place, piece: Piece, loaded: Sequence[Piece] = ()
    ) -> View:
        """Return where a step reads a piece of its window's tensors.

        It stands where the tensor is on chip; else `loaded` is what one buffer holds, the piece or
        more, and what is missing of that is loaded.
        """
        rows, columns = self._tile(place.tile)
        band = self._bands(place.tile)[place.band]
        chip = self.sources[piece.source].chip
        if chip is not None:
            part = chip.part(band.first)
            step.reads.append(Extent(
                part, piece.groups, (band.first - part.first, band.last - part.first)))
            return View(part.buffer, piece.groups[0] * part.strides[0], part.strides, part.height,
                        part.width, part.first, 0)
        strides = region_strides(rows.inputs, columns.inputs)
        buffer = self.buffers.input(
            step, [(self._ddr(one.source), one.groups) for one in loaded or [piece]],
            (rows, columns), place.tile, band.last - rows.first)
        return View(buffer, 0, strides, rows.size, columns.size, rows.first, columns.first)

    def _ddr(self, source: int) -> DdrTensor:
        tensor = self.sources[source].ddr
        assert tensor is not None
        return tensor

    def _window(self, place: Place, view: View) -> dict[str, int]:
        """Return the fields that Matrix and Post share."""
        window = self.operation.window
        _, columns = self._tile(place.tile)
        band = self._bands(place.tile)[place.band]
        return {
            "height": view.height, "width": view.width,
            "origin_y": band.first + band.origin - view.first_row,
            "origin_x": columns.first + columns.origin - view.first_column,
            "kernel_height": window.kernel[0], "kernel_width": window.kernel[1],
            "dilation_y": window.dilation[0], "dilation_x": window.dilation[1],
            "stride_y": window.stride[0], "stride_x": window.stride[1],
            "out_height": band.outputs, "out_width": columns.outputs,
            "pad_value": window.pad_value,
        }

    def _matrix_steps(self, place: Place) -> Iterator[Step]:
        """Yield an instruction for each run of lane groups that stand at equal distances."""
        groups = self._groups(place.chunk, place.part)
        assert groups is not None
        low = place.chunk * self.tiling.input_chunk
        chunk = low, min(low + self.tiling.input_chunk, self.geometry.input_groups)
        lists = self.geometry.lane_groups
        loaded = [piece for piece in lists.pieces(place.channel, chunk)
                  if piece.source not in self._resident]
        for run in lists.split(place.channel, groups, self._resident):
            step = Step(self.layer, sums=self._sums)
            step.weights, weights = self.buffers.matrix_weights(step, place.channel, groups)
            piece = lists.pieces(place.channel, run)[0]
            view = self._view(step, place, piece, loaded)
            step.input = view.buffer
            before = 0 if piece.source in self._resident else lists.loaded(
                place.channel, (low, run[0]), self._resident)
            step.matrix = Matrix(
                source=view.offset + before * view.strides[0],
                group_stride=view.strides[0], row_stride=view.strides[1],
                groups=run[1] - run[0],
                weights=weights + (run[0] - groups[0]) * self.geometry.group_words,
                accumulate=int(run[0] > 0),
                narrow_weights=int(self.operation.narrow_weights), **self._window(place, view),
                **self._displacements.matrix_fields(
                    step, self._bands(place.tile)[place.band], self._tile(place.tile)[1]))
            yield step

    def _post_step(self, place: Place) -> Step:
        step = Step(self.layer, sums=self._sums if self.geometry.matrix else None)
        tile_groups = self.tiling.channel_groups
        low = place.channel * tile_groups
        groups = low, min(low + tile_groups, self.geometry.output_groups)
        _, columns = self._tile(place.tile)
        band = self._bands(place.tile)[place.band]
        region, read = (self._region(groups, band, columns, zoom)
                        for zoom in (self.geometry.zoom, 1))
        step.parameters, parameters = self.buffers.parameters(step, place.channel)
        fields = self._requantization_fields() | {
            "groups": groups[1] - groups[0], "out_height": band.outputs,
            "out_width": columns.outputs, "parameters": parameters,
            "upsample": EVERY_PIXEL if self.operation.upsample else 0,
        }
        if self.operation.table is not None:
            step.table = self.buffers.table(step)
            fields["table_enable"] = 1
        if not self.geometry.matrix:
            fields |= self._window_fields(step, place, groups)
        fields |= self._destination_fields(step, region)
        if self.residual is not None:
            fields |= self._residual_fields(step, self.residual, read)
        step.post = Post(**fields)
        return step

    def _add_phases(self, place: Place) -> None:
        """Add a step for each phase, to one output; all that they need is there for the first."""
        whole = self._post_step(place)
        assert whole.post is not None
        for phase in range(PHASES):
            row, column = divmod(phase, 2)
            last = phase == PHASES - 1
            self.steps.append(dataclasses.replace(
                whole, loads=[] if phase else whole.loads, stores=whole.stores if last else [],
                completes=last, post=dataclasses.replace(
                    whole.post, upsample=1 << phase, kernel_height=2, kernel_width=2,
                    origin_y=whole.post.origin_y + row, origin_x=whole.post.origin_x + column,
                    taps=whole.post.taps + phase * self.geometry.output_groups)))

    def _region(
        self, groups: tuple[int, int], band: Span, columns: Span, zoom: int
    ) -> Rectangle:
        """Return where a step's results are in a tensor `zoom` times as high and wide."""
        return Rectangle(
            groups, (zoom * band.start, zoom * band.stop),
            (zoom * columns.start, round_up(zoom * columns.stop, self.config.words_per_beat)))

    def _destination_fields(self, step: Step, region: Rectangle) -> dict[str, int]:
        """Return where results go; outputs that do not stay on chip are stored at once."""
        if self.result.chip is not None:
            part = self.result.chip.part(region.rows[0])
            step.output = part.buffer
            rows = region.rows[0] - part.first, region.rows[1] - part.first
            step.writes = Extent(part, region.groups, rows)
            return {"destination": region.groups[0] * part.strides[0],
                    "destination_group_stride": part.strides[0],
                    "destination_row_stride": part.strides[1],
                    "destination_y": rows[0], "destination_x": region.columns[0]}
        assert self.result.ddr is not None
        strides = _strides(region)
        step.output = self.buffers.output((region.groups[1] - region.groups[0]) * strides[0])
        self._store(step, step.output, region, strides)
        return {"destination_group_stride": strides[0], "destination_row_stride": strides[1]}

    def _store(
        self, step: Step, buffer: Buffer, region: Rectangle, strides: tuple[int, int]
    ) -> None:
        assert self.result.ddr is not None
        store = Store(**self.result.ddr.transfer(region),
                      **region_fields(self.config, region, strides))
        step.stores.append(StoreTask(buffer, store, self.result.ddr, region))

    def _store_parts(self, chip: ChipTensor, ddr: DdrTensor) -> None:
        """Let the last step that writes a part on chip also store the part."""
        groups, _, pitch = ddr.ready.shape
        last = {id(step.writes.part): step for step in self.steps if step.writes is not None}
        for step in last.values():
            assert step.writes is not None
            part = step.writes.part
            region = Rectangle((0, groups), (part.first, part.first + part.height), (0, pitch))
            self._store(step, part.buffer, region, part.strides)

    def _requantization_fields(self) -> dict[str, int]:
        requantization = self.operation.requantization
        return {"rounding": requantization.rounding, "zero_point": requantization.zero_point,
                "clip_min": requantization.clip_min, "clip_max": requantization.clip_max}

    def _window_fields(
        self, step: Step, place: Place, groups: tuple[int, int]
    ) -> dict[str, int]:
        first = self.operation.first_group
        view = self._view(step, place, Piece(0, (first + groups[0], first + groups[1])))
        step.input = view.buffer
        fields = self._window(place, view)
        if self.geometry.depthwise:
            step.taps, fields["taps"] = self.buffers.taps(step, place.channel)
        if self.geometry.displaced:
            rows, columns = self._tile(place.tile)
            fields |= self._displacements.post_fields(
                step, place.tile, rows, self._bands(place.tile)[place.band], columns)
        return fields | {
            "source": _SOURCES[self.operation.reduction], "window": view.offset,
            "window_group_stride": view.strides[0], "window_row_stride": view.strides[1]}

    def _residual_fields(
        self, step: Step, residual: Home, region: Rectangle
    ) -> dict[str, int]:
        add = self.operation.residual
        assert add is not None
        fields = {
            "add_enable": 1, "add_multiplier": add.multiplier,
            "add_residual_multiplier": add.residual_multiplier, "add_offset": add.offset,
            "add_shift": add.shift, "add_zero_point": add.zero_point,
            "add_clip_min": add.clip_min, "add_clip_max": add.clip_max,
        }
        if residual.chip is None:
            assert residual.ddr is not None
            strides = _strides(region)
            step.residual = self.buffers.residual(step, residual.ddr, region, strides)
            return fields | {"residual_group_stride": strides[0],
                             "residual_row_stride": strides[1]}
        part = residual.chip.part(region.rows[0])
        step.residual = part.buffer
        rows = region.rows[0] - part.first, region.rows[1] - part.first
        step.reads.append(Extent(part, region.groups, rows))
        return fields | {
            "residual": region.groups[0] * part.strides[0],
            "residual_group_stride": part.strides[0], "residual_row_stride": part.strides[1],
            "residual_y": rows[0], "residual_x": region.columns[0]}


def _strides(region: Rectangle) -> tuple[int, int]:
    """Return the strides of a buffer that holds a region densely."""
    rows, columns = (stop - start for start, stop in (region.rows, region.columns))
    return region_strides(rows, columns)
