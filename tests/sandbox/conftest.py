"""Engines that run here; a test of one that does not is skipped with the reason."""

from collections.abc import Callable, Iterator

import pytest
from sandbox_limits import QUICK

from stepcredit.core.errors import MachineError
from stepcredit.sandbox import ENGINES, Engine, Sandbox, SandboxSettings
from stepcredit.sandbox.component import component_path


def reason_without(name: str) -> str:
    """Why an engine does not run here, empty if it does."""
    try:
        if name == "wasm" and not component_path().is_file():
            return "the WebAssembly component is not built: make sandbox"
        ENGINES[name](SandboxSettings(engine=name)).close()
    except MachineError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def reasons() -> dict[str, str]:
    return {name: reason_without(name) for name in ("wasm", "bwrap")}


@pytest.fixture(scope="session")
def needs(reasons: dict[str, str]) -> Callable[[str], None]:
    """Skips the test where an engine does not run."""

    def check(*names: str) -> None:
        for name in names:
            if reasons[name]:
                pytest.skip(reasons[name])

    return check


@pytest.fixture(scope="session", params=["wasm", "bwrap"])
def engine(request: pytest.FixtureRequest, needs: Callable[[str], None]) -> Iterator[Engine]:
    """Each safe engine, with short limits; one for all tests, since starting it takes longer than most of them."""
    needs(request.param)
    engine = ENGINES[request.param](SandboxSettings(engine=request.param, limits=QUICK))
    yield engine
    engine.close()


@pytest.fixture(scope="session", params=["wasm", "bwrap"])
def sandbox(request: pytest.FixtureRequest, needs: Callable[[str], None]) -> Iterator[Sandbox]:
    """A sandbox of each safe engine; a test takes sessions that are named after it."""
    needs(request.param)
    with Sandbox(SandboxSettings(request.param, limits=QUICK)) as sandbox:
        yield sandbox
