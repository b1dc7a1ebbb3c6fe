"""Runs a program through PYNQ.remote's stock client; started by test_server with its arguments.

PYNQ chooses its classes when it is imported, so the client has a process of its own: a script, in
whose directory Python finds ``programs``. It prints one line for each thing it did.
"""

from __future__ import annotations

import sys

import numpy as np
import pynq.pl_server.remote_device
from programs import make_case, set_up, start
from pynq import Device, Overlay, allocate

from pliant.spec.platform import CORE_INSTANCE


def main(bitstream: str, port: int, seed: int) -> None:
    Device.active_device = pynq.pl_server.remote_device.RemoteDevice(0, "127.0.0.1", port)
    print("connected", Device.active_device.name, Device.active_device.arch)
    overlay = Overlay(bitstream)
    print("loaded", hex(overlay.ip_dict[CORE_INSTANCE]["phys_addr"]))
    registers = overlay.pliant_core_0.register_map
    fingerprint = int(registers.fingerprint_high) << 32 | int(registers.fingerprint_low)
    print("fingerprint", hex(fingerprint))

    case = make_case(seed)
    buffer = allocate(case.size(), np.uint8)
    image = case.image(buffer.device_address)
    buffer[:] = image.data
    buffer.flush()
    set_up(overlay.pliant_core_0.write, image)
    start(overlay.pliant_core_0.write)
    polls = 0
    while not registers.status.DONE:
        polls += 1
        assert polls < 1000
    buffer.invalidate()
    case.require_exact(np.asarray(buffer))
    print("exact after", int(registers.cycles_low), "cycles")
    buffer.freebuffer()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
