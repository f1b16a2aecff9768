"""Fixtures of the tests of the programs in `eval`."""

import pytest


@pytest.fixture
def killed_at(monkeypatch):
    """Makes a function fail at one call of all, and lists its calls."""

    def replace(owner, name, call, noted=lambda *arguments, **options: None):
        """Replaces `owner.name`; the list gets `noted` of each call's arguments, the failing one's too."""
        original, calls = getattr(owner, name), []

        def counted(*arguments, **options):
            calls.append(noted(*arguments, **options))
            if len(calls) == call:
                raise ValueError("killed")
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)
        return calls

    return replace
