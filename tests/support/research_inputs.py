"""Inputs of a research run from the demo's seeded template, as a root folder.

`python -m tests.support.research_inputs` writes the examples that are checked in.
"""

from dataclasses import replace
from pathlib import Path

from tools.demo.essays import KnownEssay, essays_of_known_quality

EXAMPLES = Path(__file__).parents[2] / "tools" / "runner" / "examples"
SCALE = "swedish_8_anchor"
GRADES = ("F", "E", "D", "D+", "C", "C+", "B", "A")
ANCHORS, PUPILS, SEED = 12, 20, 17
ROLES = {
    "instructions": "Assess how well the letter argues: count reasons that are supported by an example or a figure,"
    " then how clearly it opens and closes.",
    "prompt": "Your town wants to close the youth centre. Write a letter to the editor and argue for or against it.",
    "rubric": "A letter with more supported reasons is better. Ignore handwriting, length and spelling.",
}


def research_inputs(
    anchors: int = ANCHORS, pupils: int = PUPILS, seed: int = SEED, closing: str = ""
) -> tuple[dict[str, str], dict[str, float]]:
    """The files of a root folder by name, and the quality of each text by its storage id; `closing` ends each text."""
    essays = [
        replace(essay, text=f"{essay.text} {closing}".strip())
        for essay in essays_of_known_quality(anchors + pupils, seed)
    ]
    by_quality = sorted(essays, key=lambda essay: essay.theta)
    step = len(essays) / max(anchors, 1)
    as_anchors = [by_quality[int((number + 0.5) * step)] for number in range(anchors)]
    others = [essay for essay in essays if essay not in as_anchors]
    files = {f"{name}.txt": f"{text} {closing}".strip() + "\n" for name, text in ROLES.items()}
    rows = ["anchor_id,grade"]
    for number, essay in enumerate(as_anchors, 1):
        grade = GRADES[(number - 1) * len(GRADES) // anchors]
        files[f"anchors/anchor-{number:02d}.txt"] = _file(essay)
        rows.append(f"anchor-{number:02d},{grade}")
    if as_anchors:
        files["grades.csv"] = "\n".join(rows) + "\n"
    files |= {f"students/{essay.essay_id}.txt": _file(essay) for essay in others}
    return files, {essay.storage_id: essay.theta for essay in essays}


def _file(essay: KnownEssay) -> str:
    return f"{essay.text}\n"


def write_files(root: Path, files: dict[str, str]) -> None:
    """Write files with their folders."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write_files(EXAMPLES, research_inputs()[0])
