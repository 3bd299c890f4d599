"""Checks overrides for people and callers of the API, with the judge's own function."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from processors.judging.judges.known_judges import default_model, judging_limits, known_models
from processors.settings import Settings
from schemas.models import Model, Models
from schemas.overrides import JudgingLimits, Overrides, read_overrides
from tools.models.catalogue import read_catalogue


def installed_models(settings: Settings, today: date) -> Models:
    """Every model that this installation may ask. Raises Misconfigured."""
    return known_models(settings, read_catalogue(settings.models_file, today))


@dataclass(frozen=True, slots=True)
class OverrideCheck:
    """The models and limits that overrides are checked against."""

    models: Models
    default: Model
    limits: JudgingLimits

    @classmethod
    def of(cls, settings: Settings, today: date) -> "OverrideCheck":
        """The check that a judge with these settings makes. Raises Misconfigured."""
        models = installed_models(settings, today)
        return cls(models, default_model(settings, models), judging_limits(settings))

    def check(self, text: str | None, context_origin: str | None) -> dict[str, Any]:
        """Whether these overrides are accepted: faults with path and code, and the judge that they name."""
        found = read_overrides(text, self.models, self.default, self.limits, context_origin)
        if not isinstance(found, Overrides):
            faults = [{"path": fault.path, "code": fault.code} for fault in found]
            return {"ok": False, "faults": faults, "judge": None, "warnings": []}
        return {
            "ok": True,
            "faults": [],
            "judge": found.model.name,
            "warnings": list(found.warnings),
        }
