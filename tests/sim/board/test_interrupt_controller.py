"""The interrupt controller's registers, as PG099 describes them and PYNQ uses them."""

from __future__ import annotations

import pytest

from pliant_sim.board.errors import BusError
from pliant_sim.board.interrupt_controller import InterruptController, Offset


@pytest.fixture(params=[False, True], ids=["level", "edge"])
def edge(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def controller(edge: bool) -> InterruptController:
    return InterruptController(edge=edge)


def enabled(edge: bool) -> InterruptController:
    controller = InterruptController(edge=edge)
    controller.write(Offset.SIE, 1)
    controller.write(Offset.MER, 3)
    return controller


def test_output_needs_every_enable(edge: bool, controller: InterruptController) -> None:
    controller.sample(True)
    assert not controller.output
    controller.write(Offset.SIE, 1)
    assert not controller.output
    controller.write(Offset.MER, 1)
    assert not controller.output, "the input is not seen before bit 1 of MER"
    controller.write(Offset.MER, 3)
    assert controller.output == (not edge), "an edge of before is lost"
    controller.sample(False)
    controller.sample(True)
    assert controller.output
    controller.write(Offset.CIE, 1)
    assert not controller.output
    assert (controller.read(Offset.ISR), controller.read(Offset.IPR)) == (1, 0)


def test_status_stays_until_it_is_acknowledged(edge: bool) -> None:
    controller = enabled(edge)
    controller.sample(True)
    controller.sample(False)
    assert controller.output
    controller.write(Offset.IAR, 1)
    assert not controller.output
    assert controller.read(Offset.ISR) == 0


def test_a_level_outlives_its_acknowledgement_and_an_edge_does_not(edge: bool) -> None:
    controller = enabled(edge)
    controller.sample(True)
    controller.write(Offset.IAR, 1)
    controller.sample(True)
    assert controller.output == (not edge)
    controller.write(Offset.IAR, 1)
    controller.sample(False)
    controller.write(Offset.IAR, 1)
    assert not controller.output
    controller.sample(True)
    assert controller.output, "the next edge"


def test_what_comes_while_it_is_disabled_is_kept(edge: bool) -> None:
    controller = enabled(edge)
    controller.write(Offset.CIE, 1)
    controller.sample(True)
    controller.sample(False)
    assert (controller.read(Offset.ISR), controller.read(Offset.IPR)) == (1, 0)
    assert not controller.output
    controller.write(Offset.SIE, 1)
    assert controller.output


def test_registers_read_back(edge: bool) -> None:
    controller = enabled(edge)
    assert controller.read(Offset.IER) == 1
    assert controller.read(Offset.MER) == 3
    assert controller.read(Offset.IVR) == 0xFFFF_FFFF
    controller.sample(True)
    assert controller.read(Offset.IVR) == 0
    controller.write(Offset.IER, 0)
    assert controller.read(Offset.IER) == 0
    controller.write(Offset.MER, 0)
    assert controller.read(Offset.MER) == 2, "hardware interrupts stay enabled"
    controller.reset()
    assert controller.read(Offset.MER) == 0


def test_software_sets_status_until_the_input_is_seen(controller: InterruptController) -> None:
    controller.write(Offset.SIE, 1)
    controller.write(Offset.ISR, 1)
    controller.write(Offset.MER, 1)
    assert controller.output
    controller.write(Offset.MER, 3)
    controller.write(Offset.ISR, 0)
    assert controller.output


def test_inputs_that_there_are_not_have_no_effect(controller: InterruptController) -> None:
    controller.write(Offset.IER, 0xFFFF_FFFE)
    assert controller.read(Offset.IER) == 0


def test_registers_that_are_not_modelled_are_errors(controller: InterruptController) -> None:
    with pytest.raises(BusError, match="register 0x20"):
        controller.read(0x20)
    with pytest.raises(BusError, match="register 0x100"):
        controller.write(0x100, 0)
