"""Fixtures of all tests: where the films are, and a network that no test may reach."""

import signal
import sys
from pathlib import Path

import pytest

from framecnn.estimators import feature_choice

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
LOOPBACK = "127.0.0.1"
ASKING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job: the processes of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

_reached: list[str] = []


@sys.addaudithook
def _listen(event, arguments):
    if event in ASKING:
        asked = arguments[0] if event.startswith("socket.get") else arguments[-1]
        # the address of a socket inside this machine is the name of a file, or has the host of the workers of tests
        is_file = not event.startswith("socket.get") and isinstance(asked, str | bytes)
        if not is_file and (asked[0] if isinstance(asked, tuple) else asked) != LOOPBACK:
            _reached.append(f"{event} {arguments}")


@pytest.fixture(autouse=True)
def reached():
    """Fail the test if it asks the network for anything."""
    _reached.clear()
    yield _reached
    assert _reached == [], "no test and no part of framecnn needs the network"


@pytest.fixture(scope="session", autouse=True)
def learned_features_by_default():
    """By default classifiers compute learned features only, as without the extra `pretrained`, which takes longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_choice, "has_pretrained_weights", lambda: False)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of films, clips and hostile images; skip the test on machines without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the films of ../shared/data")
    return SHARED_DATA


@pytest.fixture
def without_tracing():
    """Make TensorFlow run functions line by line: tracing takes a second for each, more than its computations."""
    tf = pytest.importorskip("tensorflow")
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
