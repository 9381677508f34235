"""Lists of names in messages."""

from pathlib import Path

from flowers.common import console


def test_a_list_of_names_has_an_end():
    names = [f"rose/{number}.jpg" for number in range(4000)]
    assert console.listed(names[:10]) == ", ".join(names[:10])
    assert console.listed(names, shown=2) == "rose/0.jpg, rose/1.jpg, and 3,998 more"
    found = console.listed(names, "; ", 1, Path("build/split.json"))
    assert found == "rose/0.jpg; and 3,999 more, in build/split.json"
    assert console.listed([]) == ""
