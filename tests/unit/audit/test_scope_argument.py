"""The scope of an audit, as the command line and the API take it: the same one, in normal form."""

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.errors import Misconfigured
from tools.api.requests.field_types import BatchId, ScopeKey
from tools.audit.scope_argument import scope_key_from

SCOPES = {
    "a1": "assignment:a1",
    "assignment:a1": "assignment:a1",
    "course:ENG5": "course:ENG5",
    "assignment:a\u030ar": "assignment:år",
    "course: ENG5\u00a0": "course:ENG5",
    "assignment:\u1112\u1161\u11ab ": "assignment:한",
    "course:\ufeffENG5": "course:ENG5",
    "assignment:a:b": "assignment:a:b",
}
NO_SCOPES = ("assignment:", "course: ", "assignment:a/b", "course:..", "assignment:\ufeff\ufeffa")


@pytest.mark.parametrize("given", SCOPES, ids=ascii)
def test_command_line_and_api_take_a_scope_alike(given: str) -> None:
    assert scope_key_from(given) == SCOPES[given]
    if ":" in given:
        assert TypeAdapter(ScopeKey).validate_python(given) == SCOPES[given]


@pytest.mark.parametrize("given", NO_SCOPES, ids=ascii)
def test_command_line_and_api_refuse_the_same_scopes(given: str) -> None:
    with pytest.raises(Misconfigured):
        scope_key_from(given)
    with pytest.raises(ValidationError):
        TypeAdapter(ScopeKey).validate_python(given)


@pytest.mark.parametrize("given", [" batch", "batch ", "ba\u030atch", "\ufeffb"], ids=ascii)
def test_the_api_takes_the_id_of_a_batch_as_it_is_in_the_request(given: str) -> None:
    assert TypeAdapter(BatchId).validate_python(given) == given
