"""A page that names the flower on a photo without a server: the LiteRT network in int8, and LiteRT.js from npm.

The folder holds static files with relative addresses, so any host can serve it from any path, without special headers:
the network runs in one thread. A service worker keeps the files for use offline.
"""

import hashlib
import json
import tarfile
from pathlib import Path

from flowers.data import npm
from flowers.serving.export import litert
from flowers.serving.export.network import Network
from flowers.serving.http import page

SOURCES = Path(__file__).parent / "web"

# Packages of npm with their SHA-256, and which of their files are put where.
_PACKAGES = {
    "@litertjs/core@2.5.3": (
        "a97660833e9e7e1063c95e12016718881240b14f7438728a2f62785e912d30fd",
        {
            "package/dist/index.js": "runtime/litert.js",
            **{
                f"package/wasm/{name}.{suffix}": f"runtime/wasm/{name}.{suffix}"
                # The second one is for browsers without relaxed SIMD.
                for name in ("litert_wasm_internal", "litert_wasm_compat_internal")
                for suffix in ("js", "wasm")
            },
        },
    ),
    "@litertjs/wasm-utils@2.5.3": (
        "ce2a1f8379c067be49e59752e5a7f40db6be09f6e497f0f11e59f17b515366a7",
        {"package/dist/index.js": "runtime/wasm-utils.js"},
    ),
}
# A browser looks this name up in a map, which would have to stand in the page as an inline script.
_SPECIFIER = ('"@litertjs/wasm-utils"', '"./wasm-utils.js"')

# Everything comes from the page's own host, and photos go nowhere.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'"
)
_PARTS = {
    "scripts": f'''<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="referrer" content="no-referrer">
<link rel="manifest" href="manifest.webmanifest">
<script src="page/local.js" type="module"></script>''',
    "privacy": "It does not leave this device.",
    "footer": "",
}
_MANIFEST = {
    "name": "Which flower is this?",
    "short_name": "Flowers",
    "start_url": "./",
    "display": "standalone",
    "icons": [{"src": "page/icon.svg", "sizes": "any", "type": "image/svg+xml"}],
}


def require() -> None:
    """Raise UserError where a package is missing and cannot be fetched."""
    litert.require()
    for package, (sha256, _) in _PACKAGES.items():
        npm.cached(package, sha256)


def write(network: Network, folder: Path) -> None:
    """Write the page with its network, `model.tflite` in int8, into the folder."""
    litert.write_int8(network, folder)
    write_page(network, folder)


def write_float16(network: Network, folder: Path) -> None:
    """The same with weights in float16: twice as large, and slower."""
    litert.write_float16(network, folder)
    write_page(network, folder)


def write_page(network: Network, folder: Path) -> None:
    """Write all of the page but its network, which lies there already."""
    for package, (sha256, files) in _PACKAGES.items():
        with tarfile.open(npm.cached(package, sha256)) as archive:
            for name, place in files.items():
                _put(folder / place, archive.extractfile(name).read())  # type: ignore[union-attr]
    runtime = folder / "runtime" / "litert.js"
    text = runtime.read_text(encoding="utf-8")
    assert text.count(_SPECIFIER[0]) == 1
    runtime.write_text(text.replace(*_SPECIFIER), encoding="utf-8")

    for source in (
        page.WEB / "page.css",
        page.WEB / "page.js",
        SOURCES / "local.js",
        SOURCES / "pixels.js",
        SOURCES / "icon.svg",
    ):
        _put(folder / "page" / source.name, source.read_bytes())
    about = network.about
    _put(folder / "index.html", page.index(about, _PARTS).encode())
    _put(folder / "model.json", _json({"classes": about.classes, "size": about.size, "threshold": about.threshold}))
    _put(folder / "manifest.webmanifest", _json(_MANIFEST))
    _put(folder / "worker.js", _worker(folder).encode())


def _worker(folder: Path) -> str:
    """The service worker, with the names of all files and a digest of them as its version."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total = hashlib.sha256()
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    # Of the two builds of the runtime a browser fetches, and keeps, the one that it uses.
    names = [file.relative_to(folder).as_posix() for file in files if "compat" not in file.name]
    text = (SOURCES / "worker.js").read_text(encoding="utf-8")
    return text.replace("{{version}}", total.hexdigest()[:16]).replace("{{files}}", json.dumps(["./", *names]))


def _json(content: object) -> bytes:
    return (json.dumps(content, ensure_ascii=False) + "\n").encode()


def _put(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
