"""Which scopes have changed is kept up to a bound."""

from tables.changed_scopes import ChangedScopes


def test_changes_are_drained_once_in_the_order_of_their_first_change() -> None:
    changed = ChangedScopes(max_scopes=3)
    changed.add(["b", "a"])
    changed.add(["c", "b"])
    assert changed.drain() == ["b", "a", "c"]
    assert changed.drain() == []


def test_beyond_the_bound_any_scope_may_have_changed_until_the_next_call() -> None:
    changed = ChangedScopes(max_scopes=3)
    changed.add(["a", "b"])
    changed.add(["c", "d"])
    changed.add(["e"])
    assert changed.drain() is None
    changed.add(["f"])
    assert changed.drain() == ["f"]
