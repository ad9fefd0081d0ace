"""Files of every form against what their samples stand for: read rightly or refused, never different in silence.

    PYTHONPATH=tests:tests/fuzz python tests/fuzz/decoder_fuzz.py 6000

`make fuzz-decode` runs it; test_fuzz_decoder.py runs a few hundred of the same files.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
from decoder_files import OTHERS
from decoder_tiff import TIFF, Case

from edgecls.errors import DataError
from edgecls.images.decode import decode_gray

MAKERS = (*TIFF, *OTHERS)


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield so many files, the makers in turn."""
    for number in range(count):
        yield MAKERS[number % len(MAKERS)](np.random.default_rng((seed, number)))


def judge(case: Case) -> tuple[str, str]:
    """Return "read", "refused" or "different" and, of the last, how."""
    try:
        gray = np.asarray(decode_gray(case.data)).astype(float)
    except DataError as error:
        return "refused", str(error)
    if case.gray is None:
        return "different", f"{case.what}: read, which must be refused; {gray.min()} to {gray.max()}"
    if gray.shape != case.gray.shape:
        return "different", f"{case.what}: shape {gray.shape} for {case.gray.shape}"
    # Half a gray value of rounding on our side.
    off = np.abs(gray - case.gray).max()
    return ("read", "") if off <= case.within + 0.501 else ("different", f"{case.what}: off by {off:.1f}")


def run(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Return how many files came to what, and what is different."""
    counts: Counter[str] = Counter()
    faults = []
    for case in cases(count, seed):
        result, text = judge(case)
        counts[f"{case.what.split()[0]} {result}"] += 1
        counts[result] += 1
        if result == "different":
            faults.append(text)
    return counts, faults


def main() -> int:
    """Print what came of the files."""
    counts, faults = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print("\n".join(faults[:40]))  # noqa: T201
    for name, number in sorted({**counts, "different": len(faults)}.items()):
        print(f"{number:7,} {name}")  # noqa: T201
    return len(faults) > 0


if __name__ == "__main__":
    sys.exit(main())
