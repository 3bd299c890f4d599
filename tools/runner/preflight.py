"""`cjstream run preflight`: everything that a run needs, checked before anything is uploaded; each fault has a remedy.

A check that cannot be made because another one failed is left out: its fault would be the same one.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import group_state
from processors.kafka.topic_admin import count_brokers, topic_states
from processors.setting_sources import secret_in_environment
from processors.settings import Settings
from schemas.errors import CJStreamError, Unreachable
from schemas.field_limits import MAX_ANCHORS
from schemas.models import Model
from schemas.scales import get_scale
from tables.judging.grade_projection import ANCHORS_MIN, GRADES_MIN
from tools.admin.api import AdminApi
from tools.admin.failures import Refused
from tools.models.catalogue import read_catalogue
from tools.runner.assignment import ROLES
from tools.runner.content_client import ContentClient
from tools.runner.inventory import Inventory

MIN_FREE_BYTES = 64 * 1024 * 1024
PROBE_TEXT = b"A text that the research runner stores and reads, to check the content store.\n"
START_API = "start it: `cjstream api`, or correct CJ_ADMIN_BASE_URL; `cjstream doctor` says more"
SIGN_IN = "sign in as administrator: `cjstream admin login`, or set CJ_ADMIN_TOKEN"
KINDS = {role: kind for kind, role in ROLES.items()}


@dataclass(frozen=True, slots=True)
class PreflightCheck:
    """One check: what was found and, if it is not ok, what to do; exit_code of a run that it stops."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    exit_code: int = 3


class PreflightFailed(CJStreamError):
    """Something that a run needs is missing; one line for each fault."""

    def __init__(self, failed: Sequence[PreflightCheck]) -> None:
        self.lines = tuple(f"{check.name}: {check.detail}: {check.remedy}" for check in failed)
        self.exit_code = max(check.exit_code for check in failed)
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is going to do, as far as it is checked here."""

    inventory: Inventory
    assignment_id: str
    grade_scale: str
    model: Model
    folder: Path


def refuse_failed(checks: Iterable[PreflightCheck]) -> None:
    """Raises PreflightFailed if a check failed."""
    if failed := [check for check in checks if not check.ok]:
        raise PreflightFailed(failed)


def checked(name: str, remedy: str, exit_code: int, look: Callable[[], str]) -> PreflightCheck:
    """The check that `look` makes: it returns what it found, or raises what is wrong."""
    try:
        return PreflightCheck(name, True, look())
    except CJStreamError as fault:
        return PreflightCheck(name, False, str(fault), remedy, exit_code)


def local_checks(plan: Plan, free_bytes_min: int = MIN_FREE_BYTES) -> list[PreflightCheck]:
    """What can be checked without any service: anchors, price, folder."""
    return [
        checked(
            "anchors",
            f"give {ANCHORS_MIN} to {MAX_ANCHORS} anchors, of {GRADES_MIN} grades or more, or none at all",
            3,
            lambda: _anchors(plan),
        ),
        checked(
            "price",
            "choose a model with a price: `cjstream models prices`; or add its price to CJSTREAM_MODELS_FILE",
            2,
            lambda: _price(plan.model),
        ),
        checked(
            "folder",
            "name another folder with --folder, or free some space",
            1,
            lambda: _folder(plan.folder, free_bytes_min),
        ),
    ]


def _anchors(plan: Plan) -> str:
    anchors = plan.inventory.of("anchor")
    grades = {anchor.grade for anchor in anchors}
    if len(anchors) > MAX_ANCHORS:
        raise CJStreamError(f"{len(anchors)} anchors: an assignment may have {MAX_ANCHORS}")
    if anchors and (len(anchors) < ANCHORS_MIN or len(grades) < GRADES_MIN):
        raise CJStreamError(
            f"{len(anchors)} anchors of {len(grades)} grades: no grades can be made"
        )
    scale = get_scale(plan.grade_scale)
    return f"{len(anchors)} of {len(grades)} grades, {scale.id}" if anchors else "none: no grades"


def _price(model: Model) -> str:
    if model.price is None:
        raise CJStreamError(f"{model.name} has no known price")
    return f"{model.name}: {model.price.price_id[:12]}"


def _folder(folder: Path, free_bytes_min: int) -> str:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    probe = existing / ".cjstream-preflight"
    try:
        probe.write_bytes(b"")
        probe.unlink()
        free = shutil.disk_usage(existing).free
    except OSError as fault:
        raise CJStreamError(f"{existing} cannot be written to: {fault.strerror}") from fault
    if free < free_bytes_min:
        raise CJStreamError(
            f"{existing} has {free // 2**20} MiB left, {free_bytes_min // 2**20} are needed"
        )
    return f"{folder}: {free // 2**20} MiB left"


def key_check(model: Model, settings: Settings, today: date) -> PreflightCheck:
    """Whether the provider's key is here; only a probe needs it here, a run needs it where the judge runs."""

    def look() -> str:
        providers = read_catalogue(settings.models_file, today).providers
        provider = next((one for one in providers if one.name == model.provider), None)
        variable = provider.key_variable if provider else None
        if variable is None:
            return f"{model.provider} takes none"
        if secret_in_environment(variable) is None:
            raise CJStreamError(f"{variable} is not set")
        return f"{variable} is set"

    return checked("key", "set it, or name a file that holds it with …_FILE", 2, look)


def kafka_checks(settings: Settings) -> list[PreflightCheck]:
    """Broker, topics, and whether a worker and a judge run."""
    broker = checked(
        "broker",
        "start Kafka, or correct CJSTREAM_BOOTSTRAP_SERVERS",
        4,
        lambda: (
            f"{count_brokers(admin_client(settings), settings, 5.0)} at {settings.bootstrap_servers}"
        ),
    )
    if not broker.ok:
        return [broker]
    topics = checked("topics", "run `cjstream topics apply`", 3, lambda: _topics(settings))
    if not topics.ok:
        return [broker, topics]
    return [
        broker,
        topics,
        checked(
            "worker",
            "start one: `cjstream worker`; a request would wait for it",
            4,
            lambda: _members(settings, settings.prep_group, settings.topics.requests.name),
        ),
        checked(
            "judge",
            "start one: `cjstream judge`; a batch would wait for it",
            4,
            lambda: _members(settings, settings.judge_group, settings.topics.batches.name),
        ),
    ]


def _topics(settings: Settings) -> str:
    states = topic_states(admin_client(settings), settings)
    missing = [state.topic.name for state in states if state.topic_id is None]
    wrong = [f"{s.topic.name}: {'; '.join(s.contradictions)}" for s in states if s.contradictions]
    if missing or wrong:
        raise CJStreamError("; ".join([*(f"{name} is missing" for name in missing), *wrong]))
    return f"{len(states)}"


def _members(settings: Settings, group: str, topic: str) -> str:
    members = group_state(settings, group, [topic]).members
    if not members:
        raise CJStreamError(f"the group {group} has no member")
    return f"{members} in {group}"


def api_checks(api: AdminApi, content: ContentClient, plan: Plan) -> list[PreflightCheck]:
    """API, role, content store, the assignment's readiness and its scale."""
    signed_in = _sign_in(api, plan)
    if not all(check.ok for check in signed_in):
        return signed_in
    return [
        *signed_in,
        checked(
            "content",
            "see `cjstream doctor` for the content store of the API",
            4,
            lambda: _content(content),
        ),
        checked(
            "readiness",
            "give the missing texts: the installation's CJSTREAM_REQUIRED_ROLES wants them",
            3,
            lambda: _readiness(api, plan),
        ),
        checked(
            "scale",
            "give the assignment's scale with --scale, or take another --assignment-id",
            3,
            lambda: _scale(api, plan),
        ),
    ]


def _sign_in(api: AdminApi, plan: Plan) -> list[PreflightCheck]:
    """Whether the API answers, and whether it lets this caller write."""
    answers = PreflightCheck("API", True, api.base_url)
    try:  # only who may write may read anchors, and no text is read for them
        path, query = (
            ("anchors", "assignment", plan.assignment_id),
            {"grade_scale": plan.grade_scale},
        )
        api.call("look at the anchors", "GET", *path, query=query)
    except Unreachable as fault:
        return [PreflightCheck("API", False, str(fault), START_API, 4)]
    except Refused as refusal:
        if refusal.status >= 500:
            return [PreflightCheck("API", False, str(refusal), START_API, 4)]
        if refusal.status in (401, 403):
            return [answers, PreflightCheck("role", False, str(refusal), SIGN_IN, 1)]
    except CJStreamError as fault:
        return [answers, PreflightCheck("role", False, str(fault), SIGN_IN, 1)]
    return [answers, PreflightCheck("role", True, "may write")]


def _content(content: ContentClient) -> str:
    storage_id = content.store(PROBE_TEXT)
    content.get(storage_id)
    return "a text was stored and read"


def _readiness(api: AdminApi, plan: Plan) -> str:
    document = api.call("readiness", "GET", "assignments", plan.assignment_id, "readiness").document
    missing = [
        role
        for role in document["required"]
        if not document.get(f"has_{role}") and plan.inventory.one(KINDS[role]) is None
    ]
    if missing:
        raise CJStreamError(f"{plan.assignment_id} would have no {', '.join(missing)}")
    return f"{plan.assignment_id} will have {', '.join(document['required'])}"


def _scale(api: AdminApi, plan: Plan) -> str:
    try:
        live: Mapping[str, Any] = api.call(
            "read the instructions",
            "GET",
            "assessment-instructions",
            "assignment",
            plan.assignment_id,
        ).document
    except Refused as refusal:
        if refusal.status == 404:
            return f"{plan.grade_scale}, of a new assignment"
        raise
    if live["grade_scale"] != plan.grade_scale:
        raise CJStreamError(
            f"{plan.assignment_id} has the scale {live['grade_scale']}, the run {plan.grade_scale}"
        )
    return plan.grade_scale
