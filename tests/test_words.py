"""The package and its documents use the field's words, US spelling, and no words that only this project used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").iterdir()))
SOURCES = tuple(
    path for path in sorted((ROOT / "edgecls").rglob("*")) if path.suffix in {".py", ".jinja", ".md"} and path.is_file()
)

# What is not said, as a regular expression -> what is said instead. A word with a second, normal meaning is forbidden
# only in phrases that cannot mean anything else. In code an underscore separates words, see `split_names`.
OLD_WORDS = {
    # Of a run or a machine
    r"ill|illness(es)?": "problem",
    r"healthy": "no problems found",
    r"nois(y|ier) neighbou?rs?|a neighbou?r made": "contention, other processes",
    # Training
    r"(--)?views|view (phase|of (each|an|one) image)|features of view": "augmented copies",
    r"(first )?step[- ]sizes?": "learning rate",
    r"head phase|phase head|unfreeze phase|views phase": "classifier, fine-tuning, augmented",
    r"trunks?|frozen parts?": "feature extractor, backbone",
    r"cut (layer|point)|where the network is cut": "split layer",
    r"undone|is undone": "discarded",
    r"skills?|ruin(s|ed)?": "normalized accuracy, forgetting",
    r"by heart": "overfitting",
    # Export
    r"likeness(es)?|price|(time|channel)'?s? (time )?is worth": "KL divergence",
    r"varied (images|pixels|copies)|vary images": "perturbed",
    r"as right as|right answers?|wrong (answers?|ones?)|ones right": "correct, incorrect",
    r"within chance": "not significant",
    r"seal(s|ed|ing)?|the contract|contracts? (inside|in|of) (a|an|the|every|each|this) .*file": "metadata, checksum",
    # Boards, hosts and what travels
    r"luggage|goodbye|last words|heart ?beats? of|the heart": "file bundle, heartbeat, stderr, shutdown",
    r"(python|edgecls|file|command) there|there and back": "remote, on the board",
    # Measuring and choosing
    r"contenders?|beaten|short rounds?|first round's": "finalists, slower, screening round",
    r"middle means?|likely ranges?": "interquartile mean, confidence interval",
    r"leans? on|spreads? of (the )?(prior|estimates?)|grounds_of|grounds": "nearest references, prior scale, evidence",
    # Verbs of the old house style
    r"mend(s|ed|ing)?|anew|gone on with|go on with|goes on with": "fix, again, resume",
    r"tells? (the user|of|it)|(is|are) told|def +(tell|say|note|mend)": "report, format, warn, fix",
    r"the lecture'?s? (has|as|own|networks?)": "introduce it: the networks of a university lecture",
    # British spelling
    r"colour\w*|behaviours?|neighbour\w*|favour\w*|honour\w*": "US spelling: -or",
    r"centres?|centred|metres?|litres?|fibres?": "US spelling: -er",
    r"grey(s|scale)?": "gray",
    r"licences?": "license",
    r"labelled|labelling|unlabelled|modelled|modelling|cancelled|cancelling|travelled|signalled": "US spelling: one l",
    r"(normal|initial|equal|quant|serial|optim|general|recogn|organ|real|minim|maxim|synchron|summar|special|custom|"
    r"local|final|vector|standard|util|author|categor|emphas|memor|visual|regular|penal)is(e|es|ed|ing|ation|ations)": (
        "US spelling: -ize"
    ),
    r"analys(e|ed|ing)|catalogue|programme|judgement|whilst|artefacts?|defence|practise[ds]?": "US spelling",
}

# Options begin with dashes, so \b would not find them.
PATTERN = re.compile(
    "|".join(rf"(?P<w{number}>(?<!\w)(?:{old})(?!\w))" for number, old in enumerate(OLD_WORDS)), re.IGNORECASE
)
REPLACEMENTS = list(OLD_WORDS.values())

# Where a file begins with this path, text that matches this is allowed, for this reason.
ALLOWED = (
    ("CHANGELOG.md", r"make licences", "the target was renamed"),
    ("CHANGELOG.md", r"`--views`|`healthy`", "names of older versions"),
    ("edgecls/networks/split_layer.py", r"undone", "layers that were not visited yet"),
    ("edgecls/benchmark/record.py", r"noisy neighbour", "the cause as records of older versions name it"),
    ("edgecls/cli/train", r"(--)?\bviews\b", "the old spelling of the option, hidden"),
    ("edgecls/estimate/estimate.py", r"\"(grounds|leans_on)\"", "JSON keys of older versions, which scripts read"),
    ("edgecls/config/choices.py", r"\bviews\b", "the setting as run.json of older versions names it"),
    ("edgecls/training/phase_names.py", r"\bviews\b", "the phase as older runs name it"),
    ("edgecls/report/page.py", r"healthy", "the finding as older runs name it"),
    ("edgecls/training/diagnosis/finding.py", r"healthy", "the finding as older runs name it"),
)


def find_old_words(path: Path, text: str) -> list[str]:
    """Return one line for each old word of a file: where it is, the word, and the word that replaces it.

    Names in code count as words: `round_weights` and `RoundWeights` are read with spaces.
    """
    name = path.relative_to(ROOT).as_posix()
    for start, pattern, _ in ALLOWED:
        text = re.sub(pattern, "", text) if name.startswith(start) else text
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text.replace("_", " "))
    lines = []
    for found in PATTERN.finditer(words):
        number = words.count("\n", 0, found.start()) + 1
        replacement = REPLACEMENTS[int((found.lastgroup or "w0").removeprefix("w"))]
        lines.append(f"{name}:{number}: {found[0]!r}: say {replacement}")
    return lines


@pytest.mark.parametrize("paths", [DOCUMENTS, SOURCES], ids=["documents", "package"])
def test_the_words_are_those_of_the_field(paths: tuple[Path, ...]) -> None:
    assert len(paths) > 10
    found = [line for path in paths for line in find_old_words(path, path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("note: healthy", "healthy"),
        ("a noisy neighbour took 76 % of CPU 0", "noisy neighbour"),
        ("def pack_luggage(files):", "luggage"),
        ("class ShortRound:", "Short Round"),
        ("int8 is quantised", "quantised"),
        ("the colour and the behaviour", "behaviour"),
        ("grey, centred and labelled", "labelled"),
        ("`--views` changed versions", "--views"),
    ],
)
def test_an_old_word_is_found(line: str, word: str) -> None:
    found = find_old_words(ROOT / "README.md", line)
    assert any(repr(word) in each for each in found), found


@pytest.mark.parametrize(
    "line",
    [
        "a memoryview of the file",
        "will still fill a pill; until the cut of the list is right",
        "the license of a colored, normalized, labeled image",
        "precise, otherwise, exercise, advise, raise, promise",
        "analyses of the results",
    ],
)
def test_a_normal_word_is_allowed(line: str) -> None:
    assert not find_old_words(ROOT / "README.md", line)
