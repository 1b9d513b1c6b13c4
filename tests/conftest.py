"""What all tests share: where the films are, when they are here."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


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
