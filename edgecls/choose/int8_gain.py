"""Why int8 won or lost: what the processor lacks, what the engine left in float, how little there is to compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgecls.choose.candidates import Candidate
from edgecls.choose.rounds import Timed, Timing
from edgecls.profiling.profile import Profile, profile_file

# The steps between float and int8 that every graph has, at its input and output, take less.
STEPS_SHARE = 0.05
# Below, calling an operator takes a large part of its time, and int8 makes the arithmetic alone faster: LiteRT and
# ONNX Runtime need 1 to 3 microseconds for an operator on almost no data.
CALL_US = 10.0
PROFILE_SECONDS = 2.0
INT8_ISA = ("vnni", "dotprod", "i8mm")


def explain_int8(timing: Timing, candidates: Sequence[Candidate]) -> str:
    """Return what int8 gained or why it lost, in a sentence or two.

    Args:
        timing: of the candidates.
        candidates: those that were not even timed, too.
    """
    winner = timing.winner
    others = [each for each in timing.timed if not each.candidate.rejected_because]
    if winner.candidate.precision == "int8":
        best = next((each for each in others if each.candidate.precision != "int8"), None)
        if best is None:
            return "int8 won: no float configuration may be shipped."
        return f"int8 won: {best.candidate.name}, the fastest in float, takes {best.ratio.ratio:.2f} times as long."
    best = next((each for each in others if each.candidate.precision == "int8"), None)
    if best is None:
        return _explain_absence(timing, candidates)
    if best.ratio.ratio < 1:
        return (
            f"int8 may have won: {best.candidate.name} took {best.ratio.ratio:.2f} times as long, not measured validly."
        )
    causes = _causes(best, timing.record.machine["isa"])
    unknown = "no usual cause was found; 'edgecls benchmark FILE --profile' shows where the time goes"
    lost = f"int8 lost: {best.candidate.name} takes {best.ratio.ratio:.2f} times as long"
    return f"{lost}: {'; '.join(causes) or unknown}."


def _causes(lost: Timed, isa: Sequence[str]) -> list[str]:
    candidate, model = lost.candidate, lost.result.model
    if candidate.device != "cpu":
        return [f"it ran on {candidate.device}, whose operators are not profiled"]
    profile = profile_file(candidate.file, candidate.engine, candidate.threads, PROFILE_SECONDS)
    return list(find_causes(profile, isa, f"{model['width']}x{model['height']}"))


def find_causes(profile: Profile, isa: Sequence[str], image: str) -> Iterator[str]:
    """Yield why an int8 file may be slower than a float one.

    Args:
        profile: where the int8 file's time goes.
        isa: of the processor, as `doctor.FEATURES` names them.
        image: the size of the input, in words.
    """
    if not set(INT8_ISA) & set(isa):
        has = f"; it has {', '.join(isa)}" if isa else ""
        yield f"the processor has no int8 dot product (VNNI on x86, dotprod or i8mm on ARM{has})"
    steps = [each for each in profile.operators if "quantize" in each.type.lower()]
    share = sum(each.share for each in steps)
    if share >= STEPS_SHARE:
        yield f"steps between float and int8 (Q/DQ) are left over: {len(steps)}, which take {share:.0%} of its time"
    call_us = profile.invoke_ms * 1e3 / max(1, len(profile.operators))
    if call_us < CALL_US:
        yield (
            f"the image is small ({image}): {len(profile.operators)} operators take {call_us:.1f} microseconds each, "
            "much of it for being called, which int8 does not change"
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
