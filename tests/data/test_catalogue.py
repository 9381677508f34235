"""The catalogue is consistent, and the error of an unknown name is helpful."""

import re

import pytest

from flowers.common.errors import UserError
from flowers.data import catalogue


def test_an_unknown_name_lists_the_known_ones_and_the_closest():
    with pytest.raises(UserError) as error:
        catalogue.find("oxford_flower102")
    for expected in (
        "dataset.name",
        "did you mean 'oxford_flowers102'",
        "local",
        "flower_photos",
        "flowers_recognition",
    ):
        assert expected in str(error.value)
    with pytest.raises(UserError) as error:
        catalogue.find("mnist")
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize("name", ["local", "oxford_flowers102", "flower_photos", "flowers_recognition"])
def test_every_entry_is_complete(name):
    source = catalogue.find(name)
    assert source.name == name and source.title and source.licence
    assert len(set(source.class_names)) == len(source.class_names)
    for archive in source.archives:
        assert all(address.endswith("/" + archive.file_name) for address in archive.addresses)
        assert archive.addresses or "login" in source.login
        if archive.addresses:  # what a program fetches it must be able to verify
            assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", archive.checksum)
            assert archive.size > 0
    if source.archives:
        assert source.homepage.startswith("https://") and source.citation


def test_the_names_of_oxfords_classes_are_in_label_order():
    names = catalogue.find("oxford_flowers102").class_names
    assert len(names) == 102
    known = {
        1: "pink primrose",
        12: "colt's foot",
        50: "common dandelion",
        54: "sunflower",
        74: "rose",
        102: "blackberry lily",
    }
    assert {number: names[number - 1] for number in known} == known
