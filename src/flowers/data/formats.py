"""The image formats that are read, those that are only named in errors, and the suffixes of their files."""

import importlib.util

# By Pillow's names: a fixed list, because Pillow also reads formats that start other programs (EPS runs Ghostscript).
# JPEG includes MPO, several images of one shot in one file, of which the first is read.
READ = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "mpo"),
    "PNG": ("png",),
    "WEBP": ("webp",),
    "AVIF": ("avif",),  # before HEIF: both may begin with the brand mif1, which only AVIF's reader passes on
    "HEIF": ("heic", "heif", "hif"),
    "BMP": ("bmp", "dib"),
    "GIF": ("gif",),
    "TIFF": ("tif", "tiff"),
    "PPM": ("pbm", "pgm", "pnm", "ppm"),
}
RAW = "camera raw"
_NOT_READ = {
    "JPEG XL": ("jxl",),
    "JPEG 2000": ("jp2", "j2k", "jpf", "jpx"),
    RAW: ("dng", "cr2", "cr3", "nef", "nrw", "arw", "raf", "orf", "rw2", "pef", "srw"),
}

# They select files in folders; a file that is named itself may have any suffix. A file of a format that is not read is
# selected too, so that it gets an error.
SUFFIXES = tuple(sorted(suffix for group in (READ, _NOT_READ) for suffixes in group.values() for suffix in suffixes))

# For a file chooser: many systems know no media type for the files of newer formats.
ACCEPT = ",".join(["image/*", *(f".{suffix}" for suffixes in READ.values() for suffix in suffixes)])

HEIF_READER = importlib.util.find_spec("pillow_heif") is not None
FORMATS = tuple(name for name in READ if HEIF_READER or name != "HEIF")
NAMES = ", ".join({"HEIF": "HEIC", "WEBP": "WebP"}.get(name, name) for name in FORMATS)

_VIDEO = "a video"
_SIGNATURES = (  # the offset in the file, the bytes there, and what has them
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n", "JPEG XL"),
    (4, b"jP  \r\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    *((0, start, RAW) for start in (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb")),
    *((at, start, RAW) for at, start in ((4, b"ftypcrx "), (8, b"CR\2"))),
    *((0, start, f"{RAW}, or TIFF of an unknown kind") for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((4, b"ftyp" + brand, "AVIF") for brand in (b"avif", b"avis")),
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"he", b"mif1", b"msf1")),
    *((4, start, _VIDEO) for start in (b"ftyp", b"moov", b"mdat", b"wide")),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (8, b"AVI ", _VIDEO),
    (0, b"%PDF-", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"8BPS", "Photoshop"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer without its file (git lfs pull)"),
)


def refusal(content: bytes) -> str:
    """Why the bytes of a file, which no reader knows, are not read: what they are, and what is read."""
    found = next((name for at, start, name in _SIGNATURES if content.startswith(start, at)), None) or _markup(content)
    if found == "HEIC" and not HEIF_READER:
        return "HEIC; install pillow-heif to read it"
    return f"damaged {found}" if found in ("HEIC", "AVIF") else unknown(found)


def unknown(name: str | None) -> str:
    """The reason for a format that is not read, by its name if that is known."""
    return f"{f'{name}: ' if name else ''}not an image of a known format ({NAMES})"


def _markup(content: bytes) -> str | None:
    text = content[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<svg", b"<?xml", b"<!--")) and b"<svg" in text:
        return "SVG"
    return "a web page (HTML)" if text.startswith((b"<!doctype html", b"<html")) else None
