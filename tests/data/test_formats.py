"""Formats that are not read are named in the error; folders and the page know the same list."""

import io
import re

import pytest
from http_world import ByColour
from PIL import Image, TiffImagePlugin

from flowers.data import formats, images
from flowers.serving import sources
from flowers.serving.http import page


def encode(kind: str, tag: int | None = None, value: object = None, **options) -> bytes:
    stream = io.BytesIO()
    if tag is not None:
        options["tiffinfo"] = TiffImagePlugin.ImageFileDirectory_v2()
        options["tiffinfo"][tag] = value
    Image.new("RGB", (40, 30), "red").save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (encode("JPEG2000"), "JPEG 2000: "),
        (encode("JPEG2000", no_jp2=True), "JPEG 2000: "),
        (b"\xff\x0a" + bytes(50), "JPEG XL: "),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL: "),
        (encode("TIFF", 50706, b"\1\4\0\0"), "camera raw: "),  # DNG
        (encode("TIFF", 254, 1), "camera raw: "),  # NEF and ARW begin with a thumbnail
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(90), "camera raw: "),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(90), "camera raw: "),
        (b"FUJIFILMCCD-RAW 0201" + bytes(90), "camera raw: "),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(90), "a video: "),  # the film of a Live Photo
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg xmlns="x"/>', "SVG: "),
        (b"%PDF-1.7", "PDF: "),
        (b"\n<!DOCTYPE html><html>", "a web page (HTML): "),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"hello", "not an image"),
    ],
)
def test_a_format_that_is_not_read_is_named(content, name):
    with pytest.raises(images.UnreadableImage, match=rf"^{re.escape(name)}.*known format \(JPEG, .*AVIF, HEIC,"):
        images.load(content)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_a_damaged_heic_or_avif_is_not_called_unknown(kind):
    content = encode(kind)
    for size in (60, len(content) - 20):
        with pytest.raises(images.UnreadableImage, match=r"^(damaged|truncated)"):
            images.load(content[:size])


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_the_size_in_the_header_of_heic_and_avif_is_checked(kind):
    with pytest.raises(images.UnreadableImage, match="40 x 30 pixels: more than"):
        images.load(encode(kind), max_pixels=1000)


def test_without_its_reader_heic_is_named_with_the_package(monkeypatch):
    monkeypatch.setattr(formats, "HEIF_READER", False)
    monkeypatch.setattr(formats, "FORMATS", ("JPEG", "PNG", "AVIF"))
    with pytest.raises(images.UnreadableImage, match=r"^HEIC; install pillow-heif"):
        images.load(encode("HEIF"))


def test_folders_and_the_page_take_what_is_read_and_folders_also_what_is_named(tmp_path, capsys):
    for name in ("a.HEIC", "b.avif", "c.jxl", "d.nef", "e.mov", "f"):
        (tmp_path / name).write_bytes(b"")
    found = sources.Images([str(tmp_path)])
    assert [image.place.name for image in found] == ["a.HEIC", "b.avif", "c.jxl", "d.nef"]
    found.report_skipped()
    assert "2 files were skipped: the name has no image suffix (.mov, none)" in capsys.readouterr().err
    chooser = re.search(r'id="file" type="file" accept="([^"]+)"', page.index(ByColour()))[1].split(",")
    assert {"image/*", ".heic", ".avif", ".jpg"} <= {*chooser} and ".jxl" not in chooser
