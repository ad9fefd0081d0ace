"""Publish every prediction over MQTT and, on a board with pins, switch one on while a label is predicted.

pip install 'paho-mqtt>=2'                 for the pin also: gpiozero lgpio
edgecls predict model-int8.tflite --watch inbox --format jsonl | python gpio_mqtt.py
edgecls predict model-int8.tflite --watch inbox --format jsonl | python gpio_mqtt.py crack --pin 17
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from paho.mqtt.client import CallbackAPIVersion, Client


def main(arguments: Sequence[str] | None = None) -> None:
    """Read predictions until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("label", nargs="?", help="the pin is on while this is the last label (default: no pin)")
    parser.add_argument("--pin", type=int, default=17, help="GPIO number (default: %(default)s)")
    parser.add_argument("--host", default="localhost", help="MQTT broker (default: %(default)s)")
    parser.add_argument("--topic", default="edgecls", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    pin = None
    if options.label is not None:
        # Only here, because other machines have no pins.
        from gpiozero import LED

        pin = LED(options.pin)
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(options.host)
    client.loop_start()
    sent = None
    for line in sys.stdin:
        if pin is not None:
            pin.value = json.loads(line)["label"] == options.label
        sent = client.publish(options.topic, line.strip())
    if sent is not None:
        # The thread that sends would end with this script.
        sent.wait_for_publish(5)


if __name__ == "__main__":
    main()
