"""Fixtures for all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference material that lies beside the checkout where edgepose is developed; skips elsewhere."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("needs the reference files in ../shared")
    return folder


@pytest.fixture(scope="session")
def photos() -> Path:
    """The photographs that ship with the project."""
    return Path(__file__).resolve().parents[1] / "examples" / "photos"


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """What edgepose remembers of this machine stays out of the tests, and theirs out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPOSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
