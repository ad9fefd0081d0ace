"""The MQTT script in examples/, with and without a pin, on stand-ins for the two packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "examples" / "gpio_mqtt.py"
LINES = '{"image": "a.png", "label": "crack"}\n{"image": "b.png", "label": null}\n'
CLIENT = """
from enum import Enum
CallbackAPIVersion = Enum("CallbackAPIVersion", "VERSION2")
class Sent:
    def wait_for_publish(self, timeout): print("sent")
class Client:
    def __init__(self, version): pass
    def connect(self, host): print("connect", host)
    def loop_start(self): pass
    def publish(self, topic, text):
        print(topic, text)
        return Sent()
"""
PIN = """
class LED:
    def __init__(self, pin): print("pin", pin)
    def __setattr__(self, name, value): print(name, value)
"""


def run(packages: Path, *arguments: str) -> list[str]:
    (packages / "paho" / "mqtt").mkdir(parents=True, exist_ok=True)
    (packages / "paho" / "mqtt" / "client.py").write_text(CLIENT)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        input=LINES,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(packages)},
    )
    return done.stdout.splitlines()


def test_without_a_label_no_pin_is_needed(tmp_path: Path) -> None:
    first, second = (f"parts {line}" for line in LINES.splitlines())
    assert run(tmp_path, "--host", "broker", "--topic", "parts") == [
        "connect broker",
        first,
        second,
        "sent",
    ]


def test_the_pin_follows_the_label(tmp_path: Path) -> None:
    (tmp_path / "gpiozero.py").write_text(PIN)
    found = run(tmp_path, "crack", "--pin", "4")
    assert found[0] == "pin 4" and [line for line in found if line.startswith("value")] == ["value True", "value False"]
