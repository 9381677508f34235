"""Optional packages: imported where they are used, with the line that installs them where they are missing."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from flowers.common.errors import UserError

REMEDY = "type `make extras`, or pip install -e '.[export]'"


@contextlib.contextmanager
def needed(what: str) -> Iterator[None]:
    """Around the import of an optional package: UserError with the line that installs it; `what` needs it."""
    try:
        yield
    except ImportError as error:
        name = str(error.name).partition(".")[0].replace("_", "-")
        raise UserError(f"{what} needs the package {name}; {REMEDY}") from None


def require(what: str, *packages: str) -> None:
    """Raise UserError with the line that installs them where a package is missing; none is imported."""
    with needed(what):
        for name in packages:
            if missing(name):
                raise ImportError(name=name)


def missing(name: str) -> bool:
    """Whether a package is not installed; it is not imported."""
    try:
        return importlib.util.find_spec(name) is None
    except ValueError:  # None in sys.modules
        return True


def version(name: str) -> str:
    """The version of an optional package, or `none`."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def openvino(what: str) -> Any:
    """The module `openvino`; raises UserError where it is not installed, and `what` needs it."""
    # OpenVINO and NNCF send telemetry through this package.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    with needed(what):
        import openvino
    return openvino
