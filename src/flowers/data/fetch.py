"""Verified downloads: a file comes from the cache, or from an address that serves the right bytes, or not at all."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from flowers.common import locks, paths
from flowers.common.console import say, warn
from flowers.common.errors import UserError

ATTEMPTS = 3  # per address, if the failure may be temporary
PAUSE = 1.0  # seconds before the second attempt; twice that before the third
TIMEOUT = (10, 30)  # seconds: to connect, and between two parts of the response
_CHUNK = 1 << 18


def verified(
    file_name: str,
    addresses: Sequence[str],
    checksum: str | None,
    mirror: str | None = None,
    folder: Path | None = None,
    *,
    size: int | None = None,
    hint: str = "",
) -> Path:
    """The path of a file with this `checksum` ('md5:...' or 'sha256:...', None if unknown) and `size` in bytes.

    The file is taken from `folder` (default: `archives` in the user's cache), or else fetched there from the first of
    `addresses` that serves it. A `mirror` replaces the addresses by its own base address; a mirror that is a folder is
    read in place. A file appears under its own name only when it is complete and verified. Raises UserError, which
    names every address tried, gives the `hint` and says where to put the file by hand.
    """
    folder = folder or paths.cache_folder() / "archives"
    try:
        if mirror is not None and "://" not in mirror:
            return _in_folder(Path(mirror), file_name, checksum, size)
        if mirror is not None:
            if not mirror.startswith(("http://", "https://")):
                raise UserError(f"dataset.mirror: '{mirror}' is neither a folder nor an address with http(s)://")
            addresses = [f"{mirror.rstrip('/')}/{file_name}"]
        ready = folder / file_name
        if ready.is_file() and _problem(ready, checksum, size) is None:
            return ready
        folder.mkdir(parents=True, exist_ok=True)
        with locks.held(folder / f".{file_name}.lock", f"waiting for another process that fetches {file_name}"):
            _fetch(ready, addresses, checksum, size, hint)
        return ready
    except OSError as error:
        where = error.filename or folder
        raise UserError(
            f"{where}: {error.strerror or error}, while fetching {file_name}; "
            "free some space or set FLOWERS_CACHE to another folder"
        ) from None


def _in_folder(mirror: Path, file_name: str, checksum: str | None, size: int | None) -> Path:
    if not mirror.is_dir():
        raise UserError(f"dataset.mirror: there is no folder {mirror}")
    found = mirror / file_name
    if not found.is_file():
        raise UserError(f"dataset.mirror: {mirror} holds no {file_name}")
    if problem := _problem(found, checksum, size):
        raise UserError(f"{found}: {problem}; replace it with the original")
    return found


def _problem(file: Path, checksum: str | None, size: int | None) -> str | None:
    """What is wrong with an existing file, or None."""
    import pooch

    if size is not None and file.stat().st_size != size:
        return f"it has {file.stat().st_size:,} bytes instead of {size:,} (truncated or altered)"
    if checksum is None:
        return None
    algorithm, expected = checksum.split(":")
    if pooch.file_hash(str(file), alg=algorithm) != expected:
        return f"its {algorithm.upper()} is not {expected} (truncated or altered)"
    return None


def _fetch(ready: Path, addresses: Sequence[str], checksum: str | None, size: int | None, hint: str) -> None:
    """Put the verified file at `ready`; raises UserError if no address serves it."""
    problem = _problem(ready, checksum, size) if ready.is_file() else "no such file"
    if problem is None:
        return
    if ready.is_file():
        warn(f"{ready}: {problem}; fetching it again")
    # A fixed place for the unfinished file, so that the next run removes what a killed run left.
    staging = ready.with_name(f".{ready.name}.part")
    failures = []
    try:
        for address in addresses:
            failure = _try_address(address, staging, ready.name, checksum, size)
            if failure is None:
                (staging / ready.name).chmod(0o644)
                (staging / ready.name).replace(ready)
                return
            say(f"{ready.name}: {failure}")  # here, because another source may follow
            failures.append(f"  {address}: {failure}")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    tried = "\n".join(failures) if failures else "  no address serves it without a login"
    remedy = hint or "Fetch it elsewhere"
    raise UserError(f"{ready.name} could not be fetched:\n{tried}\n{remedy} and put it at {ready}")


def _try_address(address: str, staging: Path, file_name: str, checksum: str | None, size: int | None) -> str | None:
    """Download to staging/file_name, repeating after a temporary failure; returns the reason of a failure, or None."""
    import pooch
    import requests
    import tqdm

    pooch.get_logger().setLevel("WARNING")
    shown = f" ({size / 1e6:,.1f} MB)" if size else ""
    say(f"Fetching {file_name}{shown} from {address}")
    for attempt in range(1, ATTEMPTS + 1):
        shutil.rmtree(staging, ignore_errors=True)  # pooch would keep an existing file
        try:
            # pooch takes the truth value of the bar, which one without a total lacks; it sets the true total itself.
            with tqdm.tqdm(
                total=size or 1, desc=file_name, unit="B", unit_scale=True, disable=None, leave=False
            ) as bar:
                downloader = pooch.HTTPDownloader(
                    progressbar=bar, chunk_size=_CHUNK, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
                )
                pooch.retrieve(address, known_hash=None, fname=file_name, path=staging, downloader=downloader)
        except requests.RequestException as error:
            if attempt == ATTEMPTS or not _temporary(error):
                return _reason(error)
            say(f"{file_name}: {_reason(error)}; attempt {attempt + 1} of {ATTEMPTS}")
            time.sleep(PAUSE * attempt)
        else:
            return _problem(staging / file_name, checksum, size)
    raise AssertionError("the last attempt returns")


def _temporary(error: Exception) -> bool:
    """Whether the same request may succeed in a moment."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    if isinstance(error, requests.ConnectTimeout) or "NameResolutionError" in str(error):  # slow enough, or offline
        return False
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "no response in time"
    reasons = {
        requests.exceptions.ChunkedEncodingError: "the connection was interrupted",
        requests.exceptions.SSLError: "the certificate is not trusted on this machine",
        requests.exceptions.ProxyError: "the proxy denied the request",
        requests.ConnectionError: "no connection",
    }
    text = " ".join(str(error).split())[:200]
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), text)
