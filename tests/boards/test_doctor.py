"""`edgecls doctor` on recorded machines: what their /proc and /sys say."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from edgecls.boards import machine as boards_machine
from edgecls.boards.doctor import diagnose, find_profile
from edgecls.boards.machine import Machine, read_machine
from edgecls.boards.ray_processes import MARK
from edgecls.boards.rule_result import RuleResult

PI4 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
# https://raw.githubusercontent.com/sergev/vak-opensource/master/sysinfo/Raspberry-Pi-5-Model-B/lshw.txt
PI5 = PI4.replace(
    "fp asimd evtstrm crc32 cpuid",
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
).replace("0xd08", "0xd0b")
PI4_32 = PI4.replace("fp asimd evtstrm crc32 cpuid", "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva vfpd32")
PC = "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i7-7700K CPU @ 4.20GHz\nflags\t\t: fpu sse2 avx avx2 fma\n"
PC_VNNI = PC.replace("avx2", "avx2 avx_vnni")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.2")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    install(monkeypatch)
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, **packages: str) -> None:
    found = {name.replace("_", "-"): version for name, version in packages.items()}
    monkeypatch.setattr(boards_machine, "tool_versions", lambda *_: {"python": "3.11.2", "edgecls": "0.1.0"} | found)


def write(root: Path, name: str, content: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)


def pi(root: Path, cpuinfo: str = PI4, model: str = "Raspberry Pi 4 Model B Rev 1.4") -> Machine:
    write(root, "proc/cpuinfo", cpuinfo)
    write(root, "proc/meminfo", "MemTotal:        3884316 kB\nMemFree: 1 kB\n")
    write(root, "proc/device-tree/model", model + "\0")
    return read_machine(root)


def found(rule: str, machine: Machine) -> list[RuleResult]:
    return [finding for finding in diagnose(machine) if finding.rule == rule]


def name(machine: Machine) -> str | None:
    profile = find_profile(machine)
    return profile.name if profile else None


def test_a_raspberry_pi_4(record: Path) -> None:
    machine = pi(record)
    assert (machine.arch, machine.board, machine.isa) == ("aarch64", "Raspberry Pi 4 Model B Rev 1.4", ("neon",))
    assert machine.memory_mb == 3793
    assert name(machine) == "raspberry-pi-4b"
    assert "no int8 dot product" in found("int8", machine)[0].text


def test_a_raspberry_pi_5(record: Path) -> None:
    machine = pi(record, PI5, "Raspberry Pi 5 Model B Rev 1.0")
    assert machine.isa == ("dotprod", "fp16", "neon")
    assert name(machine) == "raspberry-pi-5"
    assert found("int8", machine) == []


@pytest.mark.parametrize(
    ("model", "device"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", "raspberry-pi-zero-2w"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "raspberry-pi-3b-plus"),
        ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
        ("Raspberry Pi 2 Model B Rev 1.1", None),
        ("", None),
    ],
)
def test_boards_are_known_by_their_device_tree(record: Path, model: str, device: str | None) -> None:
    assert name(pi(record, model=model)) == device


def test_a_32_bit_python_on_a_64_bit_kernel(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    machine = pi(record, PI4_32)
    assert (machine.arch, machine.kernel_arch, machine.isa) == ("armv7l", "aarch64", ("neon",))
    assert name(machine) == "raspberry-pi-4b-32bit"
    assert "64-bit kernel" in found("python", machine)[0].text
    (missing,) = found("engine", machine)
    assert missing.level == "no"
    assert "pip install edgecls 'tflite-runtime==2.14.0' 'numpy<2'" in missing.text


@pytest.mark.parametrize(
    ("cpuinfo", "nvidia", "device"),
    [
        (PC, False, "desktop-x86"),
        (PC_VNNI, False, "desktop-x86-vnni"),
        (PC_VNNI, True, "desktop-nvidia"),
        (PC.replace("avx2", ""), False, None),
    ],
)
def test_a_pc(record: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, nvidia: bool, device: str | None) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    write(record, "proc/cpuinfo", cpuinfo)
    if nvidia:
        write(record, "proc/driver/nvidia/version", "NVRM version: 550.54\n")
    machine = read_machine(record)
    assert machine.cpu == "Intel(R) Core(TM) i7-7700K CPU @ 4.20GHz"
    assert name(machine) == device
    assert [finding.level for finding in found("gpu", machine)] == (["note"] if nvidia else [])


def test_engines_that_are_installed_are_listed(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ai_edge_litert="2.3.0", onnxruntime="1.32.0", numpy="2.4.6")
    machine = pi(record)
    assert [finding.level for finding in found("engine", machine)] == ["ok", "ok"]
    assert all(finding.level != "no" for finding in diagnose(machine))
    install(monkeypatch)
    (missing,) = found("engine", pi(record))
    assert (missing.level, "pip install 'edgecls[litert]'" in missing.text) == ("no", True)


def test_a_machine_without_wheels(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    (missing,) = found("engine", pi(record))
    assert missing.level == "no"
    assert "C library unknown" in missing.text


def test_numpy_2_breaks_tflite_runtime(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tflite_runtime="2.14.0", numpy="2.1.0")
    (broken,) = found("numpy", pi(record))
    assert (broken.level, "pip install 'numpy<2'" in broken.text) == ("no", True)
    install(monkeypatch, tflite_runtime="2.14.0", ai_edge_litert="2.3.0", numpy="2.1.0")
    assert [finding.level for finding in found("numpy", pi(record))] == ["note"]
    install(monkeypatch, tflite_runtime="2.14.0", numpy="1.26.4")
    assert found("numpy", pi(record)) == []
    assert "XNNPACK" in found("engine", pi(record))[1].text


def test_two_onnxruntimes_are_one_too_many(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, onnxruntime="1.32.0", onnxruntime_gpu="1.31.1", openvino="2026.1")
    openvino, clash = found("engine", pi(record))
    # One thing is said of the two, not also that each is fine.
    assert (openvino.level, clash.level) == ("ok", "no")
    assert "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 overwrite each other's files" in clash.text
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'edgecls[onnx]'" in clash.text


def test_a_sandbox_without_cpuinfo(record: Path) -> None:
    machine = read_machine(record)
    assert (machine.memory_mb, machine.isa, machine.board) == (0, (), "")
    assert [finding.level for finding in found("cpuinfo", machine)] == ["no"]
    assert found("cpuinfo", pi(record)) == []


@pytest.mark.parametrize("ids", [("1a6e", "089a"), ("18d1", "9302")])
def test_a_coral_needs_its_library(record: Path, ids: tuple[str, str]) -> None:
    write(record, "sys/bus/usb/devices/1-1/idVendor", f"{ids[0]}\n")
    write(record, "sys/bus/usb/devices/1-1/idProduct", f"{ids[1]}\n")
    assert [finding.level for finding in found("edgetpu", pi(record))] == ["no"]
    write(record, "usr/lib/aarch64-linux-gnu/libedgetpu.so.1", "")
    assert [finding.level for finding in found("edgetpu", pi(record))] == ["ok"]


def test_no_coral_is_no_finding(record: Path) -> None:
    write(record, "sys/bus/usb/devices/1-1/idVendor", "046d\n")
    write(record, "sys/bus/usb/devices/1-1/idProduct", "c52b\n")
    assert found("edgetpu", pi(record)) == []


def test_this_machine_can_be_read() -> None:
    machine = read_machine()
    assert machine.cpus >= 1
    assert machine.packages["numpy"]
    assert diagnose(machine)


def test_ray_processes_whose_starter_is_gone_are_named_with_the_remedy(record: Path) -> None:
    write(record, "proc/77/environ", f"HOME=/\0{MARK}=12:3400:5\0")
    (finding,) = found("ray", pi(record))
    assert finding.level == "note" and finding.text.endswith("End them: kill -9 77")
    write(record, "proc/12/stat", "12 (a name) S " + " ".join(map(str, range(4, 22))) + " 3400 23")
    assert not found("ray", pi(record))
