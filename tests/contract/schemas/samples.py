"""One event of each released schema, and its bytes as the release wrote them, in `released/<Name>.v<number>.hex`.

`python -m tests.contract.schemas.samples` writes missing files. It never overwrites a file, because logs contain those
bytes.
"""

from dataclasses import replace
from pathlib import Path

from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import resolve
from processors.policy import Policy
from schemas.codec import Codec
from schemas.events import CJAssessmentRequested, Event, Outcome, ParkedRequest
from schemas.released_schemas import released
from tests.support import judging_builders
from tests.support.builders import (
    REQUEST_AT,
    anchor,
    anchors_deleted,
    anchors_uploaded,
    context_after,
    instructions_deleted,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    rubric_deleted,
    rubric_uploaded,
)

FOLDER = Path(__file__).parent / "released"
INSTRUCTIONS = instructions_uploaded("Bedöm argumentationen.", previous_event_id="i-0")
CONTEXT = context_after(INSTRUCTIONS, prompt_uploaded(), rubric_uploaded(), rubric_deleted())
REQUEST = requested(
    batch_id="prov-åk9",
    student_prompt_ref="own-prompt",
    user_id="u-1",
    org_id="o-1",
    llm_config_overrides='{"temperature": 0}',
)
UNRESOLVED = replace(REQUEST, assignment_id="a9", student_prompt_ref=None)


def prepared(request: CJAssessmentRequested, recipe: int) -> Outcome:
    """The outcome of a request for assignment a1."""
    return outcome_of(request, REQUEST_AT, resolve(request, CONTEXT, Policy()), recipe)


def unresolved(request: CJAssessmentRequested, recipe: int) -> Outcome:
    """The outcome of a request for an unknown assignment."""
    return outcome_of(request, REQUEST_AT, resolve(request, None, Policy()), recipe)


DUE_AT_MS = 1_700_000_900_000
SAMPLES: dict[str, Event] = {
    "InstructionsUploaded.v1": INSTRUCTIONS,
    "InstructionsDeleted.v1": instructions_deleted(assignment_id=None, course_id="ENG5"),
    "StudentPromptUploaded.v1": prompt_uploaded("Ska läxor förbjudas?"),
    "StudentPromptUploaded.v2": prompt_uploaded("Ska läxor förbjudas?", language="sv"),
    "StudentPromptDeleted.v1": prompt_deleted(),
    "JudgeRubricUploaded.v1": rubric_uploaded(),
    "JudgeRubricDeleted.v1": rubric_deleted(),
    "AnchorsUploaded.v1": anchors_uploaded(
        anchor("åk9-1", "D+"), anchor("åk9-1", "0", "eng5_np_national_9_step"), version=3
    ),
    "AnchorsDeleted.v1": anchors_deleted(erased=True),
    "AssignmentContext.v1": CONTEXT,
    "CJAssessmentRequested.v1": REQUEST,
    "CJAssessmentRequested.v2": replace(REQUEST, due_at_ms=DUE_AT_MS),
    "CJBatchPrepared.v1": prepared(REQUEST, recipe=1),
    "CJBatchPrepared.v2": prepared(replace(REQUEST, due_at_ms=DUE_AT_MS), recipe=2),
    "CJBatchUnresolved.v1": unresolved(UNRESOLVED, recipe=1),
    "CJBatchUnresolved.v2": unresolved(replace(UNRESOLVED, due_at_ms=DUE_AT_MS), recipe=2),
    "ParkedRequest.v1": ParkedRequest(
        request_at=REQUEST_AT,
        scope_key="assignment:a9",
        missing=("instructions", "student_prompt"),
        appended_at_ms=1_700_000_300_000,
        deadline_at_ms=1_700_001_200_000,
        request_key=b"prov-9",
        request=Codec().encode(UNRESOLVED, 1),
    ),
    **{f"{type(event).__name__}.v1": event for event in judging_builders.ONE_OF_EACH},
}


def path_of(version: str) -> Path:
    """The file of a version's bytes; a version is a text such as `ParkedRequest.v1`."""
    return FOLDER / f"{version}.hex"


def sample_bytes(version: str) -> bytes:
    """The bytes of a version's sample, as the release wrote them."""
    return bytes.fromhex(path_of(version).read_text())


def write_missing() -> None:
    """Write the missing files; they belong to the latest versions."""
    codec = Codec()
    for schema in released():
        path = path_of(f"{schema.name}.v{schema.version}")
        if not path.exists():
            digits = codec.encode(SAMPLES[path.stem]).hex()
            lines = (digits[start : start + 96] for start in range(0, len(digits), 96))
            path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_missing()
