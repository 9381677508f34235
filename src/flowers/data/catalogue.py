"""The catalogue of data sets: where they come from, and how they are verified, read and cited."""

from dataclasses import dataclass
from typing import Literal

from flowers.common.errors import UserError

Reader = Literal["folder", "oxford102", "five_classes"]


@dataclass(frozen=True)
class Archive:
    """One file to fetch: its name, every address that serves it, its size in bytes and its checksum, if known.

    `checksum` is 'md5:...' or 'sha256:...', as published by its authors or used by well-known libraries.
    """

    file_name: str
    addresses: tuple[str, ...]
    size: int | None
    checksum: str | None


@dataclass(frozen=True)
class Source:
    """A data set. `class_names` is in label order, and empty if the folders themselves are the classes.

    `login` says what to do by hand if no address serves the archives without an account.
    """

    name: str
    title: str
    reader: Reader
    licence: str
    archives: tuple[Archive, ...] = ()
    class_names: tuple[str, ...] = ()
    homepage: str = ""
    citation: str = ""
    login: str = ""


def find(name: str) -> Source:
    """The data set of this name; raises UserError that lists the known names."""
    import difflib

    if name in SOURCES:
        return SOURCES[name]
    close = difflib.get_close_matches(name, SOURCES, n=1)
    suggestion = f"; did you mean '{close[0]}'?" if close else ""
    raise UserError(f"dataset.name: unknown data set '{name}'{suggestion} (known: {', '.join(SOURCES)})")


# In the order of the labels 1 ... 102 of imagelabels.mat.
_OXFORD_NAMES = (
    *("pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea", "english marigold"),
    *("tiger lily", "moon orchid", "bird of paradise", "monkshood", "globe thistle"),
    *("snapdragon", "colt's foot", "king protea", "spear thistle", "yellow iris"),
    *("globe-flower", "purple coneflower", "peruvian lily", "balloon flower", "giant white arum lily"),
    *("fire lily", "pincushion flower", "fritillary", "red ginger", "grape hyacinth"),
    *("corn poppy", "prince of wales feathers", "stemless gentian", "artichoke", "sweet william"),
    *("carnation", "garden phlox", "love in the mist", "mexican aster", "alpine sea holly"),
    *("ruby-lipped cattleya", "cape flower", "great masterwort", "siam tulip", "lenten rose"),
    *("barbeton daisy", "daffodil", "sword lily", "poinsettia", "bolero deep blue"),
    *("wallflower", "marigold", "buttercup", "oxeye daisy", "common dandelion"),
    *("petunia", "wild pansy", "primula", "sunflower", "pelargonium"),
    *("bishop of llandaff", "gaura", "geranium", "orange dahlia", "pink-yellow dahlia"),
    *("cautleya spicata", "japanese anemone", "black-eyed susan", "silverbush", "californian poppy"),
    *("osteospermum", "spring crocus", "bearded iris", "windflower", "tree poppy"),
    *("gazania", "azalea", "water lily", "rose", "thorn apple"),
    *("morning glory", "passion flower", "lotus", "toad lily", "anthurium"),
    *("frangipani", "clematis", "hibiscus", "columbine", "desert-rose"),
    *("tree mallow", "magnolia", "cyclamen", "watercress", "canna lily"),
    *("hippeastrum", "bee balm", "ball moss", "foxglove", "bougainvillea"),
    *("camellia", "mallow", "mexican petunia", "bromelia", "blanket flower"),
    *("trumpet creeper", "blackberry lily"),
)

_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"

_LOCAL = Source("local", "A folder of images", "folder", licence="that of the images in the folder")

_OXFORD_FLOWERS102 = Source(
    name="oxford_flowers102",
    title="102 Category Flower Dataset, Visual Geometry Group, University of Oxford",
    reader="oxford102",
    # Sizes and MD5 sums as in torchvision and TensorFlow Datasets.
    archives=(
        Archive("102flowers.tgz", (f"{_OXFORD}102flowers.tgz",), 344_862_509, "md5:52808999861908f626f3c1f4e79d11fa"),
        Archive("imagelabels.mat", (f"{_OXFORD}imagelabels.mat",), 502, "md5:e0620be6f572b9609742df49c70aed4d"),
        Archive("setid.mat", (f"{_OXFORD}setid.mat",), 14_989, "md5:a5357ecc9cb78c4bef273ce3793fc85c"),
    ),
    class_names=_OXFORD_NAMES,
    homepage=_OXFORD,
    licence="none stated by its authors; the photos were collected from the web and from private albums",
    citation=(
        "M.-E. Nilsback and A. Zisserman. Automated flower classification over a large number of classes. "
        "Indian Conference on Computer Vision, Graphics and Image Processing, December 2008."
    ),
)

_FLOWER_PHOTOS = Source(
    name="flower_photos",
    title="TensorFlow's flower photos: daisy, dandelion, roses, sunflowers, tulips",
    reader="five_classes",
    archives=(
        Archive(
            "flower_photos.tgz",
            (
                "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
                "http://download.tensorflow.org/example_images/flower_photos.tgz",
            ),
            228_813_984,
            # As in TensorFlow Datasets (tf_flowers).
            "sha256:4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
        ),
    ),
    class_names=("daisy", "dandelion", "roses", "sunflowers", "tulips"),
    homepage="https://www.tensorflow.org/datasets/catalog/tf_flowers",
    licence="CC-BY 2.0, each photo by its author: the archive's LICENSE.txt names them all",
    citation="The TensorFlow Team. Flowers. January 2019.",
)

_FLOWERS_RECOGNITION = Source(
    name="flowers_recognition",
    title="Flowers Recognition, Alexander Mamaev, Kaggle: daisy, dandelion, rose, sunflower, tulip",
    reader="five_classes",
    # Kaggle publishes no checksum and has served several versions: the zip's own CRCs and the classes are checked.
    archives=(Archive("flowers-recognition.zip", (), None, None),),
    class_names=("daisy", "dandelion", "rose", "sunflower", "tulip"),
    homepage="https://www.kaggle.com/datasets/alxmamaev/flowers-recognition",
    licence="see its page; the photos come from Flickr, Google Images and Yandex Images, and belong to their authors",
    citation="A. Mamaev. Flowers Recognition. Kaggle.",
    login="Kaggle requires a login: download the zip at https://www.kaggle.com/datasets/alxmamaev/flowers-recognition",
)

SOURCES = {source.name: source for source in (_LOCAL, _OXFORD_FLOWERS102, _FLOWER_PHOTOS, _FLOWERS_RECOGNITION)}
