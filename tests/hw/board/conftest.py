"""A board's build directory, without the minutes that its Verilog takes."""

import pytest

from pliant.commands import build as module
from pliant.commands.build import BuildResult, build_board


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes the sources of a platform, with an empty core, to a directory."""

    def verilog(config, path, array="packed", ports=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("module pliant_core; endmodule\n")
        return BuildResult(path=path, config=config.name, array=array,
                           fingerprint=f"{config.fingerprint:016x}", lines=1)

    def write(platform, folder="out"):
        monkeypatch.setattr(module, "build", verilog)
        build_board(platform, tmp_path / folder)
        return tmp_path / folder

    return write
