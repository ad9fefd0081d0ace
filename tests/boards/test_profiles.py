"""Every profile loads, every figure has a source, and what installs is what PyPI has."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecls.boards import profiles
from edgecls.boards.profiles import (
    EXTRAS,
    MIN_PYTHON,
    Profile,
    System,
    board_names,
    export_target,
    find_wheel,
    install_line,
    load_profile,
    load_profiles,
    load_wheels,
    read_table,
    version,
)
from edgecls.boards.targets import TARGETS
from edgecls.errors import ConfigError
from edgecls.limits import FORMATS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
BOARDS = (
    "raspberry-pi-zero-2w raspberry-pi-3b-plus raspberry-pi-4b raspberry-pi-5 raspberry-pi-4b-32bit coral-dev-board "
    "coral-usb jetson-nano jetson-orin-nano rk3588 desktop-x86 desktop-x86-vnni desktop-nvidia nxp-imx93 ethos-u85-256 "
    "synaptics-coralboard"
)
ISA = {"neon", "fp16", "dotprod", "i8mm", "avx2", "vnni"}


def system(machine: str, python: str, glibc: str) -> System:
    return System("a system", machine, python, glibc, source="a test")


@pytest.fixture(params=board_names())
def profile(request: pytest.FixtureRequest) -> Profile:
    return load_profile(request.param)


def test_the_promised_boards_are_there() -> None:
    assert set(BOARDS.split()) <= set(board_names())
    assert [profile.name for profile in load_profiles()] == list(board_names())


def test_a_profile_holds_what_commands_ask_for(profile: Profile) -> None:
    assert profile.title
    # A microcontroller has no system with Python.
    assert profile.systems or profile.npu
    assert profile.export_target in TARGETS
    assert profile.accelerator in ("", "edgetpu", "ethos-u", "torq", "cuda")
    assert TARGETS[profile.export_target].accelerator in ("", profile.accelerator)
    assert (profile.accelerator == "ethos-u") == bool(profile.npu)
    assert set(profile.hardware.isa) <= ISA
    assert profile.hardware.memory_mb or profile.hardware.memory_note
    best = profile.recommended
    assert best.format in FORMATS
    assert best.precision in ("fp32", "fp16", "int8")
    assert best.threads >= 1
    assert best.why


def test_every_figure_has_a_source(profile: Profile) -> None:
    assert profile.hardware.sources
    assert profile.recommended.sources
    assert all(len(found.source) > 5 for found in profile.systems)
    for latency in profile.latencies:
        assert re.match(r"https?://|XNNPACK README", latency.source)
        assert latency.ms > 0
        assert latency.model.startswith("MobileNet")


def test_every_table_has_sources() -> None:
    assert all(wheel.source for wheel in load_wheels())
    table = read_table("edgetpu")
    assert all(refused["source"] for refused in table["refused"].values())
    assert set(table["mapped"]) <= set(table["ops"])
    ethos = read_table("ethosu")
    assert ethos["source"] and all(npu["source"] for npu in ethos["npus"].values())
    assert {profile.npu for profile in load_profiles() if profile.npu} <= set(ethos["npus"])


def test_the_32_bit_profile_differs_only_where_it_must() -> None:
    wide, narrow = load_profile("raspberry-pi-4b"), load_profile("raspberry-pi-4b-32bit")
    assert narrow.hardware == wide.hardware
    assert {s.machine for s in narrow.systems} == {"armv7l"}
    assert {row.ms for row in narrow.latencies}.isdisjoint(row.ms for row in wide.latencies)
    # XNNPACK's own table has 32-bit figures for the 3B+ and the 4B only.
    assert not load_profile("raspberry-pi-5-32bit").latencies


def test_an_unknown_device_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Unknown board 'pi9'. 'edgecls devices' lists all boards."):
        load_profile("pi9")
    # A name is not a path.
    with pytest.raises(ConfigError, match="Unknown board"):
        load_profile("tables/wheels")


def test_export_takes_devices_and_targets() -> None:
    assert export_target("raspberry-pi-5") == "arm64"
    assert export_target("desktop-x86-vnni") == "x86-vnni"
    assert export_target("coral-usb") == "coral"
    assert [export_target(name) for name in (*TARGETS, None)] == [*TARGETS, None]
    with pytest.raises(ConfigError, match=r"Unknown board 'pi9'.*target: x86-vnni, x86, arm64, coral"):
        export_target("pi9")


@pytest.mark.parametrize(
    ("machine", "python", "glibc", "litert", "tflite", "ort"),
    [
        ("aarch64", "3.11", "2.36", "2.3.0", "2.14.0", "1.32.0"),  # Bookworm
        ("aarch64", "3.13", "2.41", "2.3.0", None, "1.32.0"),  # Trixie
        ("aarch64", "3.9", "2.31", "2.1.0", "2.13.0", "1.19.2"),  # Bullseye
        ("armv7l", "3.11", "2.36", None, "2.14.0", None),  # Bookworm, 32-bit
        ("armv7l", "3.13", "2.41", None, None, None),  # Trixie, 32-bit
        ("aarch64", "3.7", "2.28", None, "2.11.0", "1.14.1"),  # Mendel
        ("aarch64", "3.6", "2.27", None, None, "1.10.0"),  # JetPack 4.6
        ("aarch64", "3.8", "2.31", None, "2.13.0", "1.19.2"),  # JetPack 5
        ("aarch64", "3.10.12", "2.35", "2.3.0", "2.14.0", "1.23.2"),  # JetPack 6
        ("x86_64", "3.11", "2.36", "2.3.0", "2.14.0", "1.32.0"),
        ("riscv64", "3.11", "2.36", None, None, None),
        ("aarch64", "3.11", "0", None, None, None),  # musl
    ],
)
def test_what_installs_where(
    machine: str, python: str, glibc: str, litert: str | None, tflite: str | None, ort: str | None
) -> None:
    found = [
        find_wheel(package, system(machine, python, glibc))
        for package in ("ai-edge-litert", "tflite-runtime", "onnxruntime")
    ]
    assert [wheel.version if wheel else None for wheel in found] == [litert, tflite, ort]


def test_the_install_line_is_valid_for_the_system() -> None:
    def line(package: str, *where: str) -> str:
        wheel = find_wheel(package, system(*where))
        assert wheel
        return install_line(wheel, system(*where))

    assert line("ai-edge-litert", "aarch64", "3.11", "2.36") == "pip install 'edgecls[litert]'"
    assert line("onnxruntime", "x86_64", "3.13", "2.41") == "pip install 'edgecls[onnx]'"
    bare = "pip install edgecls 'tflite-runtime==2.14.0' 'numpy<2'"
    assert line("tflite-runtime", "armv7l", "3.11", "2.36") == bare
    assert line("onnxruntime", "aarch64", "3.10", "2.35") == "pip install edgecls 'onnxruntime==1.23.2'"
    # edgecls itself does not install there.
    assert line("onnxruntime", "aarch64", "3.8", "2.31") == "pip install 'onnxruntime==1.19.2'"


def test_extras_and_python_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={MIN_PYTHON}"
    for package, extra in EXTRAS.items():
        assert any(line.startswith(package) for line in project["optional-dependencies"][extra])


def test_wheels_are_listed_newest_first() -> None:
    for package in EXTRAS:
        versions = [version(wheel.version) for wheel in load_wheels() if wheel.package == package]
        assert versions
        assert versions == sorted(versions, reverse=True)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2.14.0", (2, 14, 0)), ("3.13.0rc1", (3, 13, 0)), ("", ()), ("2026.4.1-22982", (2026, 4, 1)), ("dev", ())],
)
def test_versions_compare_as_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers
    assert version("2.14.0") > version("2.9.1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "[" * 9, "at line 1"),
        (lambda text: text.replace('title = "', 'title = 5 # "'), "it.title must be text; received 5"),
        (lambda text: "color = 1\n" + text, "it has unknown values: 'color'"),
        (lambda text: text.replace("[recommended]", "[recommendation]"), "it lacks recommended"),
        (lambda text: text.replace('systems = ["', 'systems = ["no-'), "no-"),
    ],
)
def test_a_damaged_profile_is_named(
    change: Callable[[str], str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(ROOT / "devices", tmp_path / "devices"))
    path = folder / "coral-usb.toml"
    path.write_text(change(path.read_text()))
    monkeypatch.setattr(profiles, "FOLDERS", (folder,))
    profiles._read.cache_clear()
    try:
        with pytest.raises(ConfigError, match=rf"the profile {path} cannot be used \(.*{words}.*\); correct it"):
            load_profile("coral-usb")
    finally:
        profiles._read.cache_clear()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pi4", "Did you mean raspberry-pi-4b?"),
        ("Raspberry-Pi-5", "Did you mean raspberry-pi-5?"),
        ("coral_usb", "Did you mean coral-usb?"),
        ("jetson", "Did you mean jetson-nano or jetson-orin-nano?"),
        ("rasberry-pi-4b", "raspberry-pi-4b"),
        ("toaster", "'edgecls devices' lists all boards."),
        ("", "'edgecls devices' lists all boards."),
    ],
)
def test_an_unknown_board_names_those_that_are_near(name: str, expected: str) -> None:
    for find in (load_profile, export_target):
        with pytest.raises(ConfigError, match=re.escape(f"Unknown board {name!r}. ")) as raised:
            find(name)
        assert expected in str(raised.value)
