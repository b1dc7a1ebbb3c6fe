"""Options and settings of the whole test suite."""

import os

# Before NumPy and PyTorch are imported: tests run side by side, one core each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow, or make test")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
