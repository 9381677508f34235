"""The storage of studies: its lock between processes, recovery after killed processes, and errors."""

import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import postgres
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from flowers.tuning import storage as module
from flowers.tuning.storage import Storage, StorageTrouble

PATIENCE = 120  # seconds until something counts as stuck, on a machine with much else to do
AT_ONCE = 15  # seconds: Optuna's own lock of a dead process would stay for 30
WHILE = 0.5  # seconds in which a lock that holds nobody back would have let somebody in

# What other processes do with the storage at sys.argv[1]. Each says "ready", and goes on when it is sent a line.
READY = """
import os, sys, time
from pathlib import Path
import optuna
from flowers.tuning.storage import Storage
optuna.logging.set_verbosity(optuna.logging.WARNING)

def ready(word="ready"):
    print(word, flush=True)
    sys.stdin.readline()
"""
COUNT = """
storage, counter = Storage(sys.argv[1]), Path(sys.argv[2])
ready()
for _ in range(15):
    with storage.exclusive():
        value = int(counter.read_text())
        time.sleep(0.002)
        counter.write_text(str(value + 1))
"""
HOLD = """
with Storage(sys.argv[1]).exclusive():
    ready("holding")
"""
APPEND = """
study = optuna.load_study(study_name="study", storage=Storage(sys.argv[1]).optuna)
ready()
for number in range(6):
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.set_user_attr("of", f"{sys.argv[2]} {number}")
    trial.set_user_attr("long", "x" * 20_000)
    study.tell(trial, trial.params["x"])
"""
HANG_WHILE_APPENDING = """
study = optuna.load_study(study_name="study", storage=Storage(sys.argv[1]).optuna)
os.fsync = lambda file: ready("appending")
study.set_user_attr("theirs", 1)
"""
BEGIN = """
for address in sys.argv[1:]:
    ready()
    Storage(address)
print("begun", flush=True)
"""


class Other:
    """A process that uses a storage, too."""

    def __init__(self, code: str, *arguments: object) -> None:
        command = [sys.executable, "-c", READY + code, *map(str, arguments)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def says(self, word: str) -> None:
        """Wait for a word of it."""
        line = self._process.stdout.readline().strip()
        assert line == word, f"{line}\n{self._process.communicate(timeout=PATIENCE)[1]}"

    def go_on(self) -> None:
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def ends_well(self) -> None:
        _, said = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, said

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Other]]:
    """Start other processes; none is left after the test."""
    with contextlib.ExitStack() as stack:

        def start(code: str, *arguments: object) -> Other:
            other = Other(code, *arguments)
            stack.callback(other.kill)
            return other

        yield start


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["journal", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def fresh(request, tmp_path) -> Callable[[], str]:
    """Gives the address of another storage, where nothing is yet, each time."""
    count = 0

    def fresh() -> str:
        nonlocal count
        count += 1
        if request.param == "postgresql":
            return request.getfixturevalue("server").create()
        prefix = "sqlite:///" if request.param == "sqlite" else ""
        return f"{prefix}{tmp_path}/{count}.{request.param}"

    return fresh


@pytest.fixture
def address(fresh) -> str:
    return fresh()


@pytest.fixture
def journal(tmp_path) -> Path:
    return tmp_path / "studies.journal"


@contextlib.contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[threading.Thread]:
    """Do something in another thread; when the body has ended, it must come to its end at once."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    yield thread
    thread.join(AT_ONCE)
    assert not thread.is_alive()


def take(storage: Storage) -> None:
    """Take the lock and give it back."""
    with storage.exclusive():
        pass


def create(storage: Storage) -> optuna.Study:
    return optuna.create_study(storage=storage.optuna, study_name="study")


def plainly(journal: Path) -> optuna.Study:
    """The study in a journal as anybody with Optuna reads it, without this project."""
    return optuna.load_study(study_name="study", storage=JournalStorage(JournalFileBackend(str(journal))))


def trouble(address: str) -> str:
    """What is said of an address that cannot be used."""
    with pytest.raises(StorageTrouble) as error:
        Storage(address)
    return str(error.value)


def test_the_default_is_a_journal_in_the_tracking_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = Storage()
    with storage.exclusive():
        create(storage)
    assert storage.shown == "tracking/studies.journal"
    assert [path.name for path in tmp_path.iterdir()] == ["tracking"]
    assert plainly(tmp_path / "tracking/studies.journal").study_name == "study"


@pytest.mark.parametrize("address", ["my studies/of roses.journal", "sqlite:///roses.db"])
def test_a_relative_path_is_relative_to_the_current_folder(tmp_path, monkeypatch, address):
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    storage = Storage(address)
    take(storage)
    create(storage)
    assert storage.shown == address
    file = tmp_path / "checkout" / address.removeprefix("sqlite:///")
    assert file.stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == ["checkout"]
    monkeypatch.chdir(tmp_path)
    absolute = str(file) if ":" not in address else f"sqlite:///{file}"
    assert optuna.get_all_study_names(Storage(absolute).optuna) == ["study"]


def run_at_once(others: list[Other]) -> None:
    for other in others:
        other.says("ready")
    for other in others:
        other.go_on()
    for other in others:
        other.ends_well()


def test_one_process_at_a_time_holds_the_lock(address, tmp_path, start):
    counter = tmp_path / "counter"
    counter.write_text("0")
    others = [start(COUNT, address, counter) for _ in range(3)]
    run_at_once(others)
    assert counter.read_text() == "45"


def test_the_lock_of_a_killed_process_is_free_at_once(address, start):
    storage, holder = Storage(address), start(HOLD, address)
    holder.says("holding")
    with meanwhile(lambda: take(storage)) as waiting:
        waiting.join(WHILE)
        assert waiting.is_alive()
        holder.kill()


def test_the_storage_can_be_written_while_another_thread_holds_the_lock(journal):
    storage = Storage(str(journal))
    study = create(storage)
    with storage.exclusive(), meanwhile(lambda: study.set_user_attr("seen", 1)):
        pass
    assert study.user_attrs == {"seen": 1}


def test_several_processes_that_write_at_once_lose_nothing(journal, start):
    address = str(journal)
    study = create(Storage(address))
    others = [start(APPEND, address, number) for number in range(3)]
    run_at_once(others)
    trials = optuna.load_study(study_name="study", storage=Storage(address).optuna).trials
    assert [trial.number for trial in trials] == list(range(18))
    assert sorted(trial.user_attrs["of"] for trial in trials) == sorted(f"{i} {j}" for i in range(3) for j in range(6))
    assert all(trial.state.name == "COMPLETE" and len(trial.user_attrs["long"]) == 20_000 for trial in trials)
    assert [trial.value for trial in trials] == [trial.params["x"] for trial in trials]
    assert len(study.trials) == 18


def test_several_processes_can_create_a_storage_at_once(fresh, start):
    others = [start(BEGIN, *addresses) for addresses in [[fresh() for _ in range(6)]] * 4]
    for _ in range(6):
        for other in others:
            other.says("ready")
        for other in others:
            other.go_on()
    for other in others:
        other.says("begun")


def test_a_process_killed_while_it_appends_blocks_nobody_and_loses_nothing(journal, start):
    study = create(Storage(str(journal)))
    other = start(HANG_WHILE_APPENDING, journal)
    other.says("appending")
    with meanwhile(lambda: study.set_user_attr("mine", 2)) as waiting:
        waiting.join(WHILE)
        assert waiting.is_alive()
        other.kill()
    assert plainly(journal).user_attrs == {"theirs": 1, "mine": 2}


@pytest.mark.parametrize("opened", ["before", "after"])
def test_an_incomplete_line_of_a_killed_process_is_removed_and_nothing_is_lost(journal, opened):
    study = create(Storage(str(journal)))
    study.set_user_attr("before", 1)
    with journal.open("a") as file:
        file.write('{"op_code":2,"work')
    if opened == "after":
        study = optuna.load_study(study_name="study", storage=Storage(str(journal)).optuna)
    study.set_user_attr("after", 2)
    study.set_user_attr("at last", 3)
    assert study.user_attrs == plainly(journal).user_attrs == {"before": 1, "after": 2, "at last": 3}
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_the_dashboard_can_write_while_the_lock_is_held_and_does_not_release_it(journal, start):
    """Optuna's programs have a lock of their own beside the journal, which they remove when they think it is stale."""
    storage = Storage(str(journal))
    create(storage)
    take(storage)  # whatever that leaves on disk
    holder = start(HOLD, journal)
    holder.says("holding")
    with meanwhile(lambda: plainly(journal).set_user_attr("note", "x")):
        pass
    with meanwhile(lambda: take(storage)) as waiting:
        waiting.join(WHILE)
        assert waiting.is_alive()
        holder.kill()
    assert optuna.load_study(study_name="study", storage=storage.optuna).user_attrs == {"note": "x"}


def closed() -> str:
    """An address on loopback at which nobody listens."""
    return f"127.0.0.1:{postgres.free_port()}"


def test_a_server_without_an_answer_is_an_error_after_a_few_seconds(monkeypatch):
    assert module._CONNECT_SECONDS <= 10
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        said = trouble(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/studies")
    assert time.monotonic() - begun < AT_ONCE
    assert "cannot be used" in said and "timeout" in said


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://flowers:sesame@{closed}/studies", ["cannot be used", "refused"]),
        ("postgresql://flowers:open/sesame@{closed}/studies", ["cannot be used", "refused"]),
        ("postgresql://flowers:sesame@home@{closed}/studies", ["postgresql://"]),
        ("postgresql://{closed}/studies?user=flowers&password=sesame", ["cannot be used", "refused"]),
        ("postgresql://flowers:open:sesame@127.0.0.1:5432:x/studies", ["not a database address"]),
        ("postgresql://flowers:sesame@127.0.0.1:99999/studies", ["cannot be used", "port"]),
        ("oracel://flowers:sesame@{closed}/studies", ["not a database address", "oracel"]),
        ("mysql+pymysql://flowers:sesame@{closed}/studies", ["its driver is not installed"]),
        ("redis://flowers:sesame@{closed}/0", ["not a database address"]),
    ],
)
def test_an_address_that_cannot_be_used_raises_a_one_line_error_without_the_password(address, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    said = trouble(address.format(closed=closed()))
    assert [word for word in words if word not in said] == []
    assert "sesame" not in said
    assert "\n" not in said


@pytest.mark.parametrize("address", ["sqlite:///:memory:"])
def test_a_database_in_memory_raises_an_error(address, tmp_path, monkeypatch):
    """It would end with the process."""
    monkeypatch.chdir(tmp_path)
    assert trouble(address).startswith(address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["{file}/studies.journal", "{folder}"])
def test_a_place_that_cannot_hold_a_journal_raises_an_error_naming_it(tmp_path, address):
    file, folder = tmp_path / "a file", tmp_path / "a folder"
    file.touch()
    folder.mkdir()
    said = trouble(address.format(file=file, folder=folder))
    assert said.startswith((f"{file}: ", f"{file}/deeper: ", f"{folder}: "))
    assert any(reason in said for reason in ("Not a directory", "File exists", "Is a directory"))
    assert said.endswith("; studies are kept there")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("content", ["dataset:\n  name: local\n", "hello", '{"a": 1}\n'])
def test_a_file_that_is_not_a_journal_raises_an_error_and_stays_as_it_is(tmp_path, content):
    file = tmp_path / "notes.txt"
    file.write_text(content)
    said = trouble(str(file))
    assert said.startswith(f"{file}: not a journal of studies")
    assert said.endswith("name another storage")
    assert file.read_text() == content


@pytest.mark.parametrize("version", ["v2.6.0.a", "v99.0.0.a"], ids=["older", "newer"])
def test_a_database_of_another_version_of_optuna_raises_an_error_with_what_to_do(tmp_path, version):
    address = f"sqlite:///{tmp_path}/studies.db"
    create(Storage(address))
    execute(tmp_path / "studies.db", f"UPDATE alembic_version SET version_num = '{version}'")
    said = trouble(address)
    assert said.startswith(f"{address} was made by another version of Optuna: ")
    assert "or name a fresh storage" in said
    assert (f"optuna storage upgrade --storage {address}" in said) == (version == "v2.6.0.a")


def test_a_database_that_fails_later_raises_storage_trouble(tmp_path):
    address = f"sqlite:///{tmp_path}/studies.db"
    storage = Storage(address)
    study = create(storage)
    execute(tmp_path / "studies.db", "DROP TABLE trials")
    with pytest.raises(StorageTrouble) as error, storage.explained():
        study.ask()
    assert str(error.value).startswith(f"the study storage {address} cannot be used: ")
    assert "no such table: trials" in str(error.value)


def test_a_journal_that_was_deleted_raises_storage_trouble(journal):
    storage = Storage(str(journal))
    study = create(storage)
    journal.unlink()
    with pytest.raises(StorageTrouble) as error, storage.explained():
        study.get_trials()
    assert str(error.value) == f"{journal}: No such file or directory; studies are kept there"


def execute(database: Path, statement: str) -> None:
    """Change a database behind Optuna's back."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.commit()
