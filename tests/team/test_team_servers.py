"""The servers of a team: what must not happen to other folders."""

import pytest

from team import servers


def test_only_a_folder_of_the_servers_is_removed(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(servers.NotOurs, match="no servers of yours"):
        servers.down(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    with pytest.raises(servers.NotOurs):
        servers.down(tmp_path / "nothing")
