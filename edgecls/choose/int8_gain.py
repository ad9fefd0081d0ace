"""Explains why int8 files are faster or slower than float files on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgecls.choose.candidates import Candidate
from edgecls.choose.rounds import TimedCandidate, Timing
from edgecls.messages.numbers import percent
from edgecls.profiling.profile import OperatorTimes, profile_file

# Conversions between float and int8 at a graph's input and output take a smaller fraction of its time.
CONVERSION_FRACTION = 0.05
# Below this, calling an operator takes much of its time, and int8 speeds up only the arithmetic: LiteRT and ONNX
# Runtime need 1 to 3 microseconds for an operator on almost no data.
CALL_US = 10.0
PROFILE_SECONDS = 2.0
INT8_ISA = ("vnni", "dotprod", "i8mm")


def explain_int8(timing: Timing, candidates: Sequence[Candidate]) -> str:
    """Return how much faster int8 is or why it is not, in one or two sentences."""
    winner = timing.winner
    others = [each for each in timing.timed if not each.candidate.rejected_because]
    if winner.candidate.precision == "int8":
        best = next((each for each in others if each.candidate.precision != "int8"), None)
        if best is None:
            return "int8 is the fastest: no float configuration may be shipped."
        longer = f"takes {_about(best)} times as long"
        return f"int8 is the fastest: {best.candidate.name}, the fastest in float, {longer}."
    best = next((each for each in others if each.candidate.precision == "int8"), None)
    if best is None:
        return _explain_absence(timing, candidates)
    if best.ratio.ratio < 1:
        took = f"took {best.ratio.ratio:.2f} times as long"
        return f"int8 may be faster: {best.candidate.name} {took}, but that time is invalid."
    causes = _causes(best, timing.record.machine["isa"])
    unknown = "no usual cause was found; 'edgecls benchmark FILE --profile' shows where the time goes"
    slower = f"int8 is slower: {best.candidate.name} takes {_about(best)} times as long"
    return f"{slower}: {'; '.join(causes) or unknown}."


def _about(timed: TimedCandidate) -> str:
    """Return a ratio with as many digits as are known of it."""
    return f"{timed.ratio.ratio:.2f}" if timed.is_finalist else f"about {timed.ratio.ratio:.1f}"


def _causes(timed: TimedCandidate, isa: Sequence[str]) -> list[str]:
    candidate, model = timed.candidate, timed.result.model
    if candidate.device != "cpu":
        return [f"it ran on {candidate.device}, whose operators are not profiled"]
    profile = profile_file(candidate.file, candidate.engine, candidate.threads, PROFILE_SECONDS)
    return list(find_causes(profile, isa, f"{model['width']}x{model['height']}"))


def find_causes(profile: OperatorTimes, isa: Sequence[str], image: str) -> Iterator[str]:
    """Yield the reasons why the int8 file of `profile` may be slower than a float one.

    `isa` has the processor's instruction sets, as `doctor.FEATURES` names them, `image` the input's size, "224x224".
    """
    if not set(INT8_ISA) & set(isa):
        has = f"; it has {', '.join(isa)}" if isa else ""
        yield f"the processor has no int8 dot product (VNNI on x86, dotprod or i8mm on ARM{has})"
    conversions = [each for each in profile.operators if "quantize" in each.type.lower()]
    fraction = sum(each.share for each in conversions)
    if fraction >= CONVERSION_FRACTION:
        taking = f"{len(conversions)}, which take {percent(fraction, 0)} of its time"
        yield f"conversions between float and int8 (Q/DQ) remain: {taking}"
    call_us = profile.invoke_ms * 1e3 / max(1, len(profile.operators))
    if call_us < CALL_US:
        yield (
            f"the image is small ({image}): {len(profile.operators)} operators take {call_us:.1f} microseconds each, "
            "much of it for the call, which int8 does not change"
        )


def _explain_absence(timing: Timing, candidates: Sequence[Candidate]) -> str:
    reasons = dict.fromkeys(
        f"{each.file.name}: {each.rejected_because}"
        for each in candidates
        if each.precision == "int8" and each.comparison is not None
    )
    refused = next((each for each in timing.timed if each.candidate.precision == "int8"), None)
    would = "" if refused is None else f" {refused.candidate.name} would take {refused.ratio.ratio:.2f} times as long."
    return f"int8 may not be shipped: {'; '.join(reasons) or 'no int8 file could be opened'}.{would}"
