"""Doors for conversations; what they are made of is in portway.testing.conversation. And Hypothesis' profile."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from portway.testing.conversation import Backend, RunningDoor, running

pytest.register_assert_rewrite("portway.testing.authenticator", "portway.testing.authorizer", "portway.testing.claims")

# A deadline for one example is a wall time: on a machine with other work it fails at random.
settings.register_profile("portway", deadline=None)
settings.load_profile("portway")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[RunningDoor]:
    """A door with default settings."""
    with running(tmp_path) as running_door:
        yield running_door


@pytest.fixture
def make_door(tmp_path: Path) -> Iterator[Callable[..., RunningDoor]]:
    """Makes doors with other settings: make_door(limits=Limits(...), basic="user:hash")."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(running(tmp_path, **changes))


@pytest.fixture
def web(door: RunningDoor) -> Backend:
    """The backend of service `web`."""
    backend = door.backend()
    door.service("web", backend)
    return backend
