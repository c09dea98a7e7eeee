"""One server for all tests that leave it as it was, and the same model from Python."""

import pytest

import illada_core
from tests.serving.served import serving

DEFAULTS = ("--block-length", "8", "--max-new-tokens", "24")


@pytest.fixture(scope="package")
def server(byte_model):
    for package in ("starlette", "uvicorn"):
        pytest.importorskip(package)
    with serving(byte_model, *DEFAULTS) as server:
        yield server


@pytest.fixture(scope="package")
def model(byte_model):
    """The same model from Python, which answers as the command line does (tests/test_api.py)."""
    return illada_core.load(byte_model, device="cpu")
