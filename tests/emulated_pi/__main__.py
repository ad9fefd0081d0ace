"""Check a run's exported files on emulated Raspberry Pis; exit with 1 if one answers otherwise than this machine."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from emulated_pi.check import check_board, write_record
from emulated_pi.kits import KITS, build_wheel
from emulated_pi.machine import BOARDS
from emulated_pi.pictures import choose_images, make_frames


def find_kits(export: Path, asked: list[str] | None) -> list[str]:
    """Return the kits asked for, or those whose file was exported.

    Raises:
        SystemExit: a kit that was asked for, or every one, lacks its file.
    """
    missing = {name: kit.file for name, kit in KITS.items() if not (export / kit.file).is_file()}
    for name in missing:
        if name in (asked or ()) or len(missing) == len(KITS):
            raise SystemExit(f"no {missing[name]} in {export}; run edgecls export with --int8 or --fp32 first")
        if not asked:
            sys.stderr.write(f"no {missing[name]} in {export}: {name} is left out\n")
    return asked or [name for name in KITS if name not in missing]


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m emulated_pi", description=__doc__)
    parser.add_argument("run", type=Path, help="run folder with export/model-int8.tflite and .onnx")
    parser.add_argument("--board", choices=BOARDS, action="append", help="may be repeated (default: all)")
    parser.add_argument("--kit", choices=KITS, action="append", help="may be repeated (default: all that install)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="(default: the run's test split)")
    parser.add_argument("--count", type=int, default=200, help="images (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the record as JSON")
    arguments = parser.parse_args()
    kits = find_kits(arguments.run / "export", arguments.kit)
    chosen = choose_images(arguments.run, arguments.images, arguments.count)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = chosen + make_frames(chosen, folder)
        wheel = build_wheel(folder)
        for board in (BOARDS[name] for name in arguments.board or BOARDS):
            for kit in (kit for kit in board.kits if kit in kits):
                row = check_board(board, kit, arguments.run / "export", images, wheel, folder)
                rows.append(row)
                if arguments.out:  # every time, as a run takes half an hour
                    write_record(arguments.out, rows, f"{len(chosen)} and {len(images) - len(chosen)} camera frames")
                sys.stdout.write(
                    f"{board.title:24} {kit:14} {row['images']} images: {row['pixels_differ']} differ in pixels, "
                    f"{row['labels_differ']} in label, scores by {row['median_score_difference']:.4f} (median) to "
                    f"{row['max_score_difference']:.4f}: {'ok' if row['passed'] else 'FAILED'}\n"
                )
                sys.stdout.flush()
    return 0 if rows and all(row["passed"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
