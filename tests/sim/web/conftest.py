import pytest

from pliant.spec.config import preset
from pliant_sim.web.classifier import DigitClassifier
from pliant_sim.web.server import PageServer


@pytest.fixture(scope="session")
def address():
    """Serve the page of the smallest configuration; yield its address."""
    with PageServer(DigitClassifier(preset("tiny")), host="127.0.0.1", port=0) as server:
        yield server.address
