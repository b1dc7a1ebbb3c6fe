"""What a tiling is, and what it follows from."""

from __future__ import annotations

from dataclasses import dataclass

from pliant.compiler.geometry import Geometry
from pliant.spec.memory import ceil_div


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a layer is cut; lengths in outputs, channels in lane groups, slots in bank addresses."""

    tile_height: int
    band_height: int
    tile_width: int
    channel_groups: int
    input_chunk: int
    weight_chunk: int
    order: str
    weights_resident: bool
    """Whether all weights (or taps) of the layer are held at once."""
    input_slots: int
    input_slot_size: int
    output_slots: int
    residual_slots: int
    output_slot_size: int
    """Of outputs and residuals alike."""
    displacement_slots: int = 0
    displacement_slot_size: int = 0
    """Of what is loaded of a band's offsets and masks, or of a tile's for the post unit."""
    cycles: int = 0
    traffic: int = 0
    """Estimates: cycles, and bytes moved to and from DDR."""

    def arena(self) -> int:
        """Return the bank addresses that the layer takes in the feature buffer."""
        return (self.input_slots * self.input_slot_size
                + (self.output_slots + self.residual_slots) * self.output_slot_size
                + self.displacement_slots * self.displacement_slot_size)


@dataclass(frozen=True, kw_only=True)
class OnChip:
    """Which tensors of a layer are on chip: not loaded, or not stored.

    `sources` are numbers of tensors that its window reads, `displacements` of those of offsets (0)
    and masks (1).
    """

    sources: frozenset[int] = frozenset()
    displacements: frozenset[int] = frozenset()
    residual: bool = False
    result: bool = False


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What a tiling may rely on.

    Attributes
    ----------
    depth : int
        Bank addresses of the feature buffer that the layer may take.
    on_chip : OnChip
        Which tensors are neither loaded nor stored.
    tile_rows : int or None
        Rows of outputs of every tile, which is then as wide as the tensor.
    matrices : int
        Layers that share the weight buffer.
    companion : bool
        The layer runs beside others of the post unit.
    """

    depth: int
    on_chip: OnChip = OnChip()
    tile_rows: int | None = None
    matrices: int = 1
    companion: bool = False


def displacement_groups(geometry: Geometry, placement: Placement) -> int:
    """Return the lane groups of offsets and masks that are loaded."""
    return sum(groups for index, groups in enumerate(geometry.displacement_groups)
               if index not in placement.on_chip.displacements)


def same_inputs(geometry: Geometry) -> bool:
    """Whether all output channels read the same inputs."""
    return not geometry.matrix or geometry.lane_groups.uniform


def result_stored(placement: Placement) -> int:
    """Return 1 if outputs leave through slots of their own, else 0."""
    return int(not placement.on_chip.result)


def residual_loaded(geometry: Geometry, placement: Placement) -> int:
    """Return 1 if residuals are loaded, else 0."""
    return int(geometry.operation.residual is not None and not placement.on_chip.residual)


def tap_words(geometry: Geometry, channel_groups: int) -> int:
    """Return the tap words of a layer that computes so many lane groups at a time."""
    steps, rest = divmod(geometry.output_groups, channel_groups)
    return (steps * geometry.tap_words(channel_groups)
            + (geometry.tap_words(rest) if rest else 0))


def weights_resident(geometry: Geometry, placement: Placement, channel_groups: int) -> bool:
    """Whether all weights (or taps) fit their buffer, or the share of it."""
    config = geometry.config
    if geometry.depthwise:
        return tap_words(geometry, channel_groups) <= config.tap_depth
    tiles = ceil_div(geometry.output_groups, config.groups_per_tile)
    words = tiles * geometry.input_groups * geometry.group_words
    share = 1 if placement.matrices == 1 else 4
    return geometry.matrix and words <= config.weight_depth // share
