"""Prompts and their checksums, in `prompt_vectors.json`: other implementations can check theirs with them.

`python -m tests.unit.judging.prompt_vectors` writes the file if it is missing. A log contains these checksums, so a
recipe's vectors never change.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from processors.judging.prompt import (
    AskedJudge,
    PromptTexts,
    build_prompt,
    judge_sha256,
    prompt_sha256,
)

FILE = Path(__file__).parent / "prompt_vectors.json"
SIMULATED = AskedJudge(
    adapter="simulated",
    provider="simulated",
    base_url=None,
    model="sim-1",
    parameters={"seed": 1, "spread": 1.5, "delta": -0.2, "persistence": 0.8},
    answer_method="simulated",
)
REMOTE = AskedJudge(
    adapter="openai_chat",
    provider="example",
    base_url="https://user:secret@judge.example:8443/v1?key=secret",
    model="model-1",
    parameters={"temperature": 0, "top_p": 1e-7, "reasoning_effort": "low"},
    answer_method="json_schema",
)
TEXTS = PromptTexts(task="Ska läxor förbjudas?", criteria="Bedöm argumentationen.\r\n", rubric="\t")
CASES: dict[str, tuple[AskedJudge, PromptTexts, str, str, int, int]] = {
    "a guest": (SIMULATED, PromptTexts(), "One.", "Two.", 0, 0),
    "all texts": (SIMULATED, TEXTS, "Ja, för att …", "Nej 😀\n", 7, 12),
    "an own system text": (REMOTE, PromptTexts(system="Be strict."), "", '\u2028\u0001\\"/', 7, 1),
    "a text with the first fence": (REMOTE, TEXTS, "8fcbecbc3f753f2a", "Two.", 2**53 - 1, 3),
}


def vectors() -> list[dict[str, Any]]:
    """The cases with their checksums."""
    return [_vector(name, *case) for name, case in CASES.items()]


def _vector(
    name: str,
    judge: AskedJudge,
    texts: PromptTexts,
    first: str,
    second: str,
    seed: int,
    number: int,
) -> dict[str, Any]:
    prompt = build_prompt(judge, texts, first, second, seed, number)
    (block_a,) = (block.text for block in prompt.blocks if block.role == "A")
    return {
        "name": name,
        "judge": asdict(judge),
        "texts": asdict(texts),
        "first": first,
        "second": second,
        "seed": seed,
        "number": number,
        "first_line_of_A": block_a.partition("\n")[0],
        "prompt_sha256": prompt_sha256(prompt),
        "judge_sha256": judge_sha256(prompt),
    }


if __name__ == "__main__":
    if not FILE.exists():
        FILE.write_text(json.dumps(vectors(), indent=2) + "\n")
