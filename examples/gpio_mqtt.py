"""Switch a pin on while a label is predicted, and publish every prediction over MQTT. Reads JSON lines from stdin.

pip install gpiozero lgpio 'paho-mqtt>=2'
edgecls predict model-int8.tflite --watch inbox --format jsonl | python gpio_mqtt.py crack --pin 17
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from gpiozero import LED
from paho.mqtt.client import CallbackAPIVersion, Client


def main(arguments: Sequence[str] | None = None) -> None:
    """Read predictions until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("label", help="the pin is on while this is the last label")
    parser.add_argument("--pin", type=int, default=17, help="GPIO number (default: %(default)s)")
    parser.add_argument("--host", default="localhost", help="MQTT broker (default: %(default)s)")
    parser.add_argument("--topic", default="edgecls", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    pin = LED(options.pin)
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(options.host)
    client.loop_start()
    for line in sys.stdin:
        pin.value = json.loads(line)["label"] == options.label
        client.publish(options.topic, line.strip())


if __name__ == "__main__":
    main()
