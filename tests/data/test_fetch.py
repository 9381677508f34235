"""A file comes from the cache, or verified from an address; after an error nothing unfinished stays."""

import contextlib
import hashlib
import http.server
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from flowers.common.errors import UserError
from flowers.data import fetch

CONTENT = bytes(range(256)) * 8000
MD5 = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server:
    """Serves `responses`: path -> what each request gets: bytes, a status, 'short' or 'stall'."""

    def __init__(self, responses: dict[str, list]):
        self.requested: list[str] = []
        self.responses = responses
        self.released = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requested.append(self.path)
                queue = outer.responses.get(self.path, [404])
                outer.respond(self, queue.pop(0) if len(queue) > 1 else queue[0])

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def respond(self, handler, what) -> None:
        if isinstance(what, int):
            handler.send_error(what)
            return
        content = what if isinstance(what, bytes) else CONTENT
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content if isinstance(what, bytes) else content[: len(content) // 2])
        if what == "stall":
            handler.wfile.flush()
            self.released.wait(20)


@contextlib.contextmanager
def serving(**responses):
    server = Server({f"/{path.replace('__', '/').replace('_tgz', '.tgz')}": what for path, what in responses.items()})
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.server.shutdown()
        thread.join()
        server.server.server_close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.0)


@pytest.fixture
def nowhere():
    """An address without a server: a port that was free a moment ago."""
    with serving() as server:
        return server.url


def left_in(folder) -> set[str]:
    """The files in a folder, without the lock, which is empty and may stay."""
    return {path.name for path in folder.rglob("*") if not path.name.endswith(".lock")}


@pytest.mark.parametrize("checksum", [MD5, SHA256, None])
def test_a_file_is_fetched_once_and_then_comes_from_the_cache(tmp_path, checksum):
    with serving(a_tgz=[CONTENT]) as server:
        for _ in range(2):
            path = fetch.verified("a.tgz", [f"{server.url}/a.tgz"], checksum, folder=tmp_path / "new" / "cache")
            assert path == tmp_path / "new" / "cache" / "a.tgz"
            assert path.read_bytes() == CONTENT
        assert server.requested == ["/a.tgz"]
    assert left_in(tmp_path / "new" / "cache") == {"a.tgz"}


def test_the_default_folder_is_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWERS_CACHE", str(tmp_path / "cache"))
    with serving(a_tgz=[CONTENT]) as server:
        path = fetch.verified("a.tgz", [f"{server.url}/a.tgz"], MD5)
    assert path == tmp_path / "cache" / "archives" / "a.tgz"


def test_a_file_put_into_the_cache_by_hand_is_used(tmp_path, nowhere):
    (tmp_path / "a.tgz").write_bytes(CONTENT)
    assert fetch.verified("a.tgz", [f"{nowhere}/a.tgz"], SHA256, folder=tmp_path) == tmp_path / "a.tgz"
    assert fetch.verified("a.tgz", [], None, folder=tmp_path) == tmp_path / "a.tgz"


@pytest.mark.parametrize("failure", [503, "short"])
def test_a_temporary_failure_is_tried_again(tmp_path, failure):
    with serving(a_tgz=[failure, failure, CONTENT]) as server:
        fetch.verified("a.tgz", [f"{server.url}/a.tgz"], MD5, folder=tmp_path)
        assert len(server.requested) == 3
    assert (tmp_path / "a.tgz").read_bytes() == CONTENT


def test_the_next_address_is_tried_when_one_fails(tmp_path, nowhere):
    addresses = [f"{nowhere}/a.tgz"]
    with serving(wrong__a_tgz=[CONTENT[::-1]], right__a_tgz=[CONTENT]) as server:
        addresses += [f"{server.url}/missing/a.tgz", f"{server.url}/wrong/a.tgz", f"{server.url}/right/a.tgz"]
        fetch.verified("a.tgz", addresses, MD5, folder=tmp_path)
        assert server.requested == ["/missing/a.tgz", "/wrong/a.tgz", "/right/a.tgz"]
    assert (tmp_path / "a.tgz").read_bytes() == CONTENT
    assert left_in(tmp_path) == {"a.tgz"}


def test_offline_the_error_names_every_address_and_where_to_put_the_file(tmp_path, nowhere):
    addresses = [f"{nowhere}/one/a.tgz", f"{nowhere}/two/a.tgz"]
    with pytest.raises(UserError) as error:
        fetch.verified("a.tgz", addresses, MD5, folder=tmp_path)
    for expected in (*addresses, "no connection", str(tmp_path / "a.tgz")):
        assert expected in str(error.value)
    assert left_in(tmp_path) == set()


def test_without_an_address_the_error_gives_the_hint_and_the_path(tmp_path):
    with pytest.raises(UserError, match="log in at example") as error:
        fetch.verified("a.zip", [], None, folder=tmp_path, hint="log in at example")
    assert str(tmp_path / "a.zip") in str(error.value)


@pytest.mark.parametrize(
    ("served", "checksum", "size"),
    [
        (CONTENT[:-1], MD5, None),
        (CONTENT[:-1] + b"x", SHA256, None),
        (CONTENT[:-1], None, len(CONTENT)),
    ],
)
def test_an_altered_or_truncated_file_is_an_error_and_not_kept(tmp_path, served, checksum, size):
    with serving(a_tgz=[served]) as server, pytest.raises(UserError, match="truncated or altered"):
        fetch.verified("a.tgz", [f"{server.url}/a.tgz"], checksum, folder=tmp_path, size=size)
    assert left_in(tmp_path) == set()


def test_a_server_that_stops_sending_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", (1, 0.2))
    with serving(a_tgz=["stall"]) as server, pytest.raises(UserError, match="no response in time"):
        fetch.verified("a.tgz", [f"{server.url}/a.tgz"], MD5, folder=tmp_path)
    assert len(server.requested) == fetch.ATTEMPTS
    assert left_in(tmp_path) == set()


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path, capsys):
    (tmp_path / "a.tgz").write_bytes(CONTENT[:1000])
    with serving(a_tgz=[CONTENT]) as server:
        fetch.verified("a.tgz", [f"{server.url}/a.tgz"], MD5, folder=tmp_path)
    assert (tmp_path / "a.tgz").read_bytes() == CONTENT
    assert "truncated or altered" in capsys.readouterr().err


def test_offline_a_damaged_file_in_the_cache_is_never_used(tmp_path, nowhere):
    (tmp_path / "a.tgz").write_bytes(CONTENT[:1000])
    with pytest.raises(UserError):
        fetch.verified("a.tgz", [f"{nowhere}/a.tgz"], MD5, folder=tmp_path)


def test_a_mirror_replaces_the_addresses_and_checksums_still_apply(tmp_path, nowhere):
    with serving(flowers__a_tgz=[CONTENT]) as server:
        for number, base in enumerate((f"{server.url}/flowers", f"{server.url}/flowers/")):
            fetch.verified("a.tgz", [f"{nowhere}/a.tgz"], MD5, mirror=base, folder=tmp_path / str(number))
        assert server.requested == ["/flowers/a.tgz"] * 2
        with pytest.raises(UserError, match="truncated or altered"):
            fetch.verified("a.tgz", [], "md5:" + "0" * 32, mirror=f"{server.url}/flowers", folder=tmp_path / "strict")


def test_a_mirror_may_be_a_folder(tmp_path):
    mirror, cache = tmp_path / "on disk", tmp_path / "cache"
    mirror.mkdir()
    (mirror / "a.tgz").write_bytes(CONTENT)
    assert fetch.verified("a.tgz", [], MD5, mirror=str(mirror), folder=cache).read_bytes() == CONTENT
    with pytest.raises(UserError, match="truncated or altered"):
        fetch.verified("a.tgz", [], "sha256:" + "0" * 64, mirror=str(mirror), folder=cache)
    with pytest.raises(UserError, match=r"holds no b\.tgz"):
        fetch.verified("b.tgz", [], MD5, mirror=str(mirror), folder=cache)
    with pytest.raises(UserError, match=r"dataset\.mirror: there is no folder"):
        fetch.verified("a.tgz", [], MD5, mirror=str(tmp_path / "nowhere"), folder=cache)
    with pytest.raises(UserError, match=r"dataset\.mirror: 'ftp://x/y'"):
        fetch.verified("a.tgz", [], MD5, mirror="ftp://x/y", folder=cache)


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with serving(a_tgz=[CONTENT]) as server, pytest.raises(UserError, match="FLOWERS_CACHE") as error:
        fetch.verified("a.tgz", [f"{server.url}/a.tgz"], MD5, folder=tmp_path / "file" / "cache")
    assert str(tmp_path / "file") in str(error.value)


def python(code: str, **environment) -> subprocess.Popen:
    env = {**os.environ, **environment}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    code = """
        import os, pathlib, resource
        from flowers.data import fetch
        from flowers.common.errors import UserError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        try:
            fetch.verified("a.tgz", [os.environ["ADDRESS"]], None, folder=pathlib.Path(os.environ["FOLDER"]))
        except UserError as error:
            print(error)
    """
    with serving(a_tgz=[CONTENT]) as server:
        out, err = python(code, ADDRESS=f"{server.url}/a.tgz", FOLDER=str(tmp_path)).communicate(timeout=60)
    assert "File too large, while fetching a.tgz" in out, err
    assert left_in(tmp_path) == set()


FETCH = """
    import os, pathlib
    from flowers.data import fetch
    fetch.verified("a.tgz", [os.environ["ADDRESS"]], os.environ["MD5"], folder=pathlib.Path(os.environ["FOLDER"]))
"""


def test_after_a_kill_in_the_middle_the_second_run_is_clean(tmp_path):
    with serving(a_tgz=["stall", CONTENT]) as server:
        address = f"{server.url}/a.tgz"
        killed = python(FETCH, ADDRESS=address, MD5=MD5, FOLDER=str(tmp_path))
        deadline = time.monotonic() + 30
        while not any(path.is_file() and path.stat().st_size for path in tmp_path.rglob("*")):
            assert time.monotonic() < deadline and killed.poll() is None
            time.sleep(0.02)
        killed.kill()
        killed.communicate()
        assert not (tmp_path / "a.tgz").exists()
        assert left_in(tmp_path), "the kill came too late for this test"
        fetch.verified("a.tgz", [address], MD5, folder=tmp_path)
    assert (tmp_path / "a.tgz").read_bytes() == CONTENT
    assert left_in(tmp_path) == {"a.tgz"}


def test_two_threads_that_need_the_same_file_fetch_it_once(tmp_path, capsys):
    # The first request stalls, is interrupted, and succeeds when repeated.
    with serving(a_tgz=["stall", CONTENT]) as server:
        done = []

        def want():
            done.append(fetch.verified("a.tgz", [f"{server.url}/a.tgz"], MD5, folder=tmp_path))

        threads = [threading.Thread(target=want) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.3)
        server.released.set()
        for thread in threads:
            thread.join(30)
        assert len(server.requested) == 2
    assert done == [tmp_path / "a.tgz"] * 2
    assert "waiting for another process" in capsys.readouterr().err
