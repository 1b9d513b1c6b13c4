"""What all tests share: where the films are, when they are here; and that nobody asks the network for anything."""

import sys
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
ASKING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")

_reached: list[str] = []


@sys.addaudithook
def _listen(event, arguments):
    # the address of a socket inside this machine is the name of a file
    if event in ASKING and not isinstance(arguments[-1], str | bytes):
        _reached.append(f"{event} {arguments}")


@pytest.fixture(autouse=True)
def reached():
    """What the test asked the network for: nothing, or it fails."""
    _reached.clear()
    yield _reached
    assert _reached == [], "no test and no part of framecnn needs the network"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of films, clips and hostile images; absent on other machines."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the films of ../shared/data")
    return SHARED_DATA


@pytest.fixture
def without_tracing():
    """Let TensorFlow run functions line by line: tracing takes a second each, more than tests compute."""
    tf = pytest.importorskip("tensorflow")
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
