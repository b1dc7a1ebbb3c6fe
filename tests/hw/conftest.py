"""What the hardware tests share."""

import pytest

from pliant_sim.benches.runner import Simulator, icarus_available


@pytest.fixture(params=["verilator", "icarus"])
def simulator(request: pytest.FixtureRequest) -> Simulator:
    """Each of the two simulators in turn; Icarus, the second opinion, only where installed."""
    name: Simulator = request.param
    if name == "icarus" and not icarus_available():
        pytest.skip("Icarus Verilog is not installed")
    return name
