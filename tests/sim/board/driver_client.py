"""Runs a batch by pliant's driver through PYNQ.remote's stock client; see remote_client."""

from __future__ import annotations

import sys

import numpy as np
import pynq.pl_server.remote_device
from pynq import Device, Overlay

import pliant.driver.pynq  # noqa: F401 - lets PYNQ bind the driver


def main(bitstream: str, port: int, program: str, images: str, expected: str) -> None:
    Device.active_device = pynq.pl_server.remote_device.RemoteDevice(0, "127.0.0.1", port)
    overlay = Overlay(bitstream)
    with overlay.pliant_core_0.accelerator(verify="run") as accelerator:
        print("limits for", accelerator.device.clock_hz, "cycles a second")
        accelerator.load(program)
        result = accelerator.run(np.load(images))
    print("exact" if np.array_equal(result.output, np.load(expected)) else "different",
          len(result.cycles), "images")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:6])
