"""The manifest of a run: everything that it was started with, as canonical JSON (RFC 8785). Pure.

Its id is the sha256 of its bytes: the header `cjstream-run-manifest` of the request names it, and the event id of the
request is made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

import orjson

from schemas.canonical_json import canonical_json
from schemas.errors import Malformed
from schemas.events import CJAssessmentRequested, Essay
from tools.runner.input_text import RECIPE
from tools.runner.inventory import Inventory
from tools.runner.source_revision import SourceRevision

HEADER = "cjstream-run-manifest"
MANIFEST_VERSION = 1
SOURCE_SERVICE = "cjstream-run"
EVENTS = UUID(
    "6f0b9c5e-5d64-5c0b-9a4e-1f6f3b1f7a52"
)  # the namespace of event ids that are made here
MEDIA_TYPE = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the caller of a run chose. overrides: llm_config_overrides; timeout_s: how long a result is waited for."""

    label: str
    batch_id: str
    assignment_id: str
    grade_scale: str
    course_code: str
    language: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: int
    mode: str = "execute"  # or dry-run


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What runs a run: its release, source, platform and packages, and the time at which it was planned."""

    version: str
    revision: SourceRevision
    platform: str
    python: str
    packages: Mapping[str, str]
    planned_at_ms: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as a document, its bytes, and their sha256."""

    document: Mapping[str, Any]
    content: bytes

    @property
    def id(self) -> str:
        """The sha256 of the bytes, in hex."""
        return sha256(self.content).hexdigest()

    @property
    def event_id(self) -> str:
        """The event id of the request; two runs never have the same."""
        return str(uuid5(EVENTS, self.id))


def manifest_of(document: Mapping[str, Any]) -> Manifest:
    """The manifest with this content. Raises Malformed."""
    return Manifest(document, canonical_json(document))


def manifest_from(content: bytes) -> Manifest:
    """The manifest in these bytes. Raises Malformed if they are none, or not canonical."""
    try:
        manifest = manifest_of(orjson.loads(content))
    except orjson.JSONDecodeError as fault:
        raise Malformed("not a manifest: not JSON") from fault
    if manifest.content != content or not isinstance(manifest.document, dict):
        raise Malformed("not a manifest: not canonical JSON")
    if manifest.document.get("manifest_version") != MANIFEST_VERSION:
        raise Malformed(f"not a manifest of version {MANIFEST_VERSION}")
    return manifest


def build_manifest(
    options: RunOptions,
    inventory: Inventory,
    environment: Environment,
    estimate: Mapping[str, Any],
) -> Manifest:
    """The manifest of a run that begins. Raises Malformed."""
    inputs = [
        {
            "kind": text.kind,
            "id": text.id,
            "file_name": text.file_name,
            "file_sha256": text.file_sha256,
            "size_bytes": len(text.text),
            "storage_id": text.storage_id,
            "recipe": RECIPE,
            "grade": text.grade,
        }
        for text in inventory.texts
    ]
    document = {
        "manifest_version": MANIFEST_VERSION,
        "mode": options.mode,
        "label": options.label,
        "batch_id": options.batch_id,
        "planned_at_ms": environment.planned_at_ms,
        "versions": {"cjstream": environment.version, "python": environment.python},
        "git_sha": environment.revision.sha,
        "git_dirty": environment.revision.is_dirty,
        "platform": environment.platform,
        "packages": dict(environment.packages),
        "inputs": inputs,
        "assignment_id": options.assignment_id,
        "grade_scale": options.grade_scale,
        "course_code": options.course_code,
        "language": options.language,
        "overrides": dict(options.overrides),
        "estimate": dict(estimate),
        "timeout_seconds": options.timeout_s,
    }
    return manifest_of(document)


def request_of(manifest: Manifest) -> CJAssessmentRequested:
    """The one request of a run. Its essays are the students' texts; anchors belong to the assignment."""
    document = manifest.document
    overrides = document["overrides"]
    return CJAssessmentRequested(
        event_id=manifest.event_id,
        occurred_at_ms=document["planned_at_ms"],
        source_service=SOURCE_SERVICE,
        correlation_id=correlation_id_of(manifest),
        batch_id=document["batch_id"],
        assignment_id=document["assignment_id"],
        course_code=document["course_code"],
        language=document["language"],
        llm_config_overrides=canonical_json(overrides).decode() if overrides else None,
        essays=tuple(
            Essay(essay_id=one["id"], text_storage_id=one["storage_id"])
            for one in document["inputs"]
            if one["kind"] == "student"
        ),
    )


def correlation_id_of(manifest: Manifest) -> str:
    """The correlation id of everything that a run sends."""
    return str(uuid5(EVENTS, f"correlation:{manifest.id}"))
