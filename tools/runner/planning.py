"""The plan of a run: its inputs, its overrides as the judge will read them, its manifest and what it will cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256

from processors.judging.judges.known_judges import default_model, judging_limits
from processors.judging.run_opening import JudgingPolicy, Opened
from processors.settings import Settings
from schemas.models import Model
from tools.models.override_check import installed_models
from tools.runner.estimate import Estimate, estimate_document, estimate_of
from tools.runner.inventory import Inventory
from tools.runner.manifest import (
    Environment,
    Manifest,
    RunOptions,
    build_manifest,
    request_of,
)
from tools.runner.run_options import check_money_limit, check_overrides
from tools.runner.simulated_run import planned_opening


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run that is ready to begin. opened: the first record that its judge will write."""

    inventory: Inventory
    manifest: Manifest
    model: Model
    opened: Opened
    estimate: Estimate

    @property
    def texts(self) -> Mapping[str, str]:
        """Every text of the run by its storage id, those of the overrides, too."""
        own = {sha256(text.encode()).hexdigest(): text for text in self.opened.own_texts}
        return {**texts_of(self.inventory), **own}


def texts_of(inventory: Inventory) -> dict[str, str]:
    """Every text of the inputs by its storage id."""
    return {text.storage_id: text.text.decode() for text in inventory.texts}


def plan_run(
    options: RunOptions, inventory: Inventory, environment: Environment, settings: Settings
) -> PlannedRun:
    """The plan. Raises OverridesRefused, Usage, Misconfigured, Discrepancy."""
    now_ms = environment.planned_at_ms
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    overrides = check_overrides(options.overrides, settings, today)
    check_money_limit(options.overrides, overrides.model)
    draft = build_manifest(options, inventory, environment, {})
    policy = installed_policy(settings, today)
    texts = texts_of(inventory)
    opened = planned_opening(draft.document, request_of(draft), texts, policy, now_ms)
    own = {sha256(text.encode()).hexdigest(): text for text in opened.own_texts}
    estimate = estimate_of(opened.record, {**texts, **own}.__getitem__)
    document = estimate_document(estimate)
    return PlannedRun(
        inventory=inventory,
        manifest=build_manifest(options, inventory, environment, document),
        model=overrides.model,
        opened=opened,
        estimate=estimate,
    )


def installed_policy(settings: Settings, today: date) -> JudgingPolicy:
    """How a judge of this installation judges. Raises Misconfigured."""
    models = installed_models(settings, today)
    return JudgingPolicy(
        models=models,
        default=default_model(settings, models),
        limits=judging_limits(settings),
        items_max=settings.judge_items_max,
        guests_allowed=settings.judge_guests,
    )
