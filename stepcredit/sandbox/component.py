"""The WebAssembly component: built once on the user's machine, kept under a name made of all that went into it."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from stepcredit.core.digests import digest
from stepcredit.core.errors import MachineError
from stepcredit.sandbox.inside import wasm
from stepcredit.store.files import FileWriter

_NEEDED = ("wasmtime", "componentize_py", "sympy", "mpmath")
_INSIDE = Path(wasm.__file__).parent
_WIT = """
package stepcredit:sandbox;
world runner {
  export run: func(source: string) -> tuple<u8, string>;
}
"""
_APP = "import guest\nguest.preload()\nWitWorld = guest.WitWorld\n"
_BUILD = "from componentize_py import script; import sys; sys.exit(script())"
_WORDS = ("-d", "runner.wit", "-w", "runner", "componentize", "app", "-p", "app", "-p", "site", "-o", "component.wasm")
_BUILD_S = 600.0


def cache_folder() -> Path:
    """Where components lie: below `XDG_CACHE_HOME`, or `.cache` in the home folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stepcredit" / "sandbox"


def component_path(folder: Path | None = None) -> Path:
    """The component's file, which need not be there yet: its name is a digest of versions, machine and our source.

    Raises:
        MachineError: if a package that it is made with is missing.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MachineError(f"engine 'wasm' needs {', '.join(missing)}; install with: pip install 'stepcredit[sandbox]'")
    guest = (_INSIDE / "guest.py").read_text(encoding="utf-8")
    versions = [version(name.replace("_", "-")) for name in _NEEDED]
    name = digest(versions, (sys.platform, platform.machine()), guest, _WIT, _APP, wasm.SETTINGS)
    return (folder or cache_folder()) / f"{name}.cwasm"


def build_component(folder: Path | None = None) -> Path:
    """Build the component, if it is not there: half a minute of one core, 100 MB.

    Raises:
        MachineError: if a package is missing, or the build fails; with what it said.
    """
    path = component_path(folder)
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory(prefix="stepcredit-component-") as made:
        place = FileWriter(Path(made))
        place.write("runner.wit", _WIT)
        place.write("app/app.py", _APP)
        place.write("app/guest.py", (_INSIDE / "guest.py").read_text(encoding="utf-8"))
        for name in ("sympy", "mpmath"):
            found = find_spec(name)
            origin = Path((found and found.origin) or "")
            shutil.copytree(origin.parent, place.root / "site" / name, ignore=shutil.ignore_patterns("tests", "*.pyc"))
        env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        try:
            done = subprocess.run(  # noqa: S603 -- our own command
                [sys.executable, "-c", _BUILD, *_WORDS],
                cwd=made,
                env=env,
                capture_output=True,
                check=False,
                timeout=_BUILD_S,
            )
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"the component was not built within {_BUILD_S:.0f} s") from error
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[:300]
            raise MachineError(f"the component could not be built: {said}")
        native = wasm.compiled((place.root / "component.wasm").read_bytes())
    FileWriter(path.parent).write(path.name, native)
    return path
