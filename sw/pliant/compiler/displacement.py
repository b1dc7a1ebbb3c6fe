"""How the instructions of a layer displace their taps, and where offsets come from."""

from __future__ import annotations

from collections.abc import Sequence

from pliant.compiler.buffers import Buffer
from pliant.compiler.geometry import Geometry, Span
from pliant.compiler.home import Home
from pliant.compiler.layer_buffers import LayerBuffers
from pliant.compiler.memory_plan import Rectangle
from pliant.compiler.step import Extent, Step
from pliant.spec.memory import region_strides, round_up
from pliant.spec.sampling import FRACTION_BITS, Sampling

NAMES = ("offset", "mask")
"""Of the instruction's fields for the tensors of offsets and masks."""


class Displacements:
    """Gives the instructions of one layer, in order, their offset fields.

    Parameters
    ----------
    geometry : Geometry
    homes : sequence of Home
        Of the offsets and, if there are, of the masks; empty for a plain layer.
    buffers : LayerBuffers
    """

    def __init__(
        self, geometry: Geometry, homes: Sequence[Home], buffers: LayerBuffers
    ) -> None:
        self._config = geometry.config
        self._sampling = geometry.operation.sampling
        self._groups = geometry.displacement_groups
        self._homes = homes
        self._buffers = buffers
        self._copied: tuple[Span, Span] | None = None  # what the offset memory holds

    def matrix_fields(self, step: Step, band: Span, columns: Span) -> dict[str, int]:
        """Return a Matrix's fields for a band of outputs; offsets are copied unless they are."""
        sampling = self._sampling
        if sampling is None:
            return {}
        fields = _meaning(sampling) | {"interpolate": int(sampling.interpolate)}
        fields |= {f"{name}_groups": count
                   for name, count in zip(NAMES, self._groups, strict=False)}
        if self._copied == (band, columns):
            return fields
        self._copied = band, columns
        return fields | self._copy(step, band, columns) | {"offset_load": 1}

    def post_fields(
        self, step: Step, tile: int, rows: Span, band: Span, columns: Span
    ) -> dict[str, int]:
        """Return a Post's fields for a band of a tile, whose outputs are `rows`.

        Offsets in DDR are loaded band by band, once for all channels.
        """
        assert self._sampling is not None
        [count], [home] = self._groups, self._homes
        fields = _meaning(self._sampling) | {"offset_groups": count}
        last = round_up(columns.stop, self._config.words_per_beat)
        if home.chip is None:
            assert home.ddr is not None
            step.residual = self._buffers.offsets(
                step, home.ddr, count, tile, (rows.start, rows.stop), (columns.start, last),
                band.stop - rows.start)
            strides = region_strides(rows.outputs, last - columns.start)
            place = {"y": band.start - rows.start}
        else:
            part = home.chip.part(band.start)
            step.residual, strides = part.buffer, part.strides
            span = band.start - part.first, band.stop - part.first
            step.reads.append(Extent(part, (0, count), span))
            place = {"y": span[0], "x": columns.start}
        place |= {"group_stride": strides[0], "row_stride": strides[1]}
        return fields | {f"residual_{what}": value for what, value in place.items()}

    def _copy(self, step: Step, band: Span, columns: Span) -> dict[str, int]:
        """Return where offsets and masks are; those in DDR are loaded."""
        last = round_up(columns.stop, self._config.words_per_beat)
        strides = region_strides(band.outputs, last - columns.start)
        loaded = []
        for count, home in zip(self._groups, self._homes, strict=True):
            if home.chip is None:
                assert home.ddr is not None
                loaded.append((home.ddr, Rectangle(
                    (0, count), (band.start, band.stop), (columns.start, last))))
        buffer, starts = (self._buffers.displacements(step, loaded, strides)
                          if loaded else (None, []))
        places = iter(starts)
        fields: dict[str, int] = {}
        used: list[Buffer | None] = []
        for name, count, home in zip(NAMES, self._groups, self._homes, strict=False):
            if home.chip is None:
                used.append(buffer)
                at = {"source": next(places), "group_stride": strides[0],
                      "row_stride": strides[1]}
            else:
                part = home.chip.part(band.start)
                used.append(part.buffer)
                rows = band.start - part.first, band.stop - part.first
                step.reads.append(Extent(part, (0, count), rows))
                at = {"group_stride": part.strides[0], "row_stride": part.strides[1],
                      "y": rows[0], "x": columns.start}
            fields |= {f"{name}_{what}": value for what, value in at.items()}
        step.offsets, step.masks = (*used, None)[:2]
        return fields


def _meaning(sampling: Sampling) -> dict[str, int]:
    """Return the fields that say what offsets mean."""
    return {"offsets": sampling.offsets, "offset_shift": FRACTION_BITS - sampling.fraction_bits,
            "offset_min": sampling.minimum, "offset_max": sampling.maximum}
