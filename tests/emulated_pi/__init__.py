"""A Raspberry Pi without a Raspberry Pi: Debian's ARM files and the ARM wheels, run by qemu's user emulation.

    PYTHONPATH=tests python -m emulated_pi RUN

It proves that the wheels install and that the answers are x86's. Its times say nothing about a board.
"""
