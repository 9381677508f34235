"""Several commands, terminals and machines share a study, and some are killed: real processes, seen from outside."""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pipeline_world
import postgres
import psutil
import pytest
from optuna.trial import FrozenTrial
from pipeline_world import Repository

from flowers.tuning.storage import Storage

PATIENCE = 240  # seconds until something counts as stuck: pytest gives up a minute later
EPOCHS = 150  # a trial takes seconds, so that it can be met in the middle
N_TRIALS = 5
STUDY = "flowers local"
SCORE = "val_mean_per_class_accuracy"
SETTINGS = {
    "train.epochs": EPOCHS,
    "train.patience": EPOCHS,
    "tune.pruner": "none",
    "tune.confirm_seeds": 0,
    "tune.space": {
        "head.dropout": {"low": 0.0, "high": 0.6},
        "train.learning_rate": {"low": 0.0003, "high": 0.01, "log": True},
    },
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("git"), reason="needs git"),
    pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX"),
]


class Command:
    """A command that runs by itself, and what it has said so far."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
            self._process = subprocess.Popen(
                arguments, cwd=folder, env=environment, stdout=out, stderr=err, start_new_session=True
            )
        self.pid = self._process.pid

    @property
    def out(self) -> str:
        return self._log.with_suffix(".out").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._log.with_suffix(".err").read_text(encoding="utf-8")

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def status(self) -> int:
        """Wait for its end; the exit status."""
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running\n{self.out}\n{self.err}") from None

    def signal(self, number: int) -> None:
        """Send a signal to it and all that it has started, as a terminal does."""
        os.killpg(self.pid, number)

    def is_gone(self) -> bool:
        """Whether it and all that it has started have ended."""
        self._process.poll()
        return not any(is_running(pid) for pid in group(self.pid))

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def group(leader: int) -> Iterator[int]:
    """The processes of a group."""
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == leader:
                yield pid


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Machine(Repository):
    """A checkout in which studies run, and the commands that were started there."""

    def __init__(self, folder: Path, cache: Path) -> None:
        super().__init__(folder, cache)
        self.commands: list[Command] = []

    def tune(self, *arguments: str, **environment: str) -> Command:
        """Start `flowers tune`."""
        words = (sys.executable, "-m", "flowers", "tune", "--n-trials", str(N_TRIALS), *arguments)
        variables = self._environment | {"PYTHONPATH": "src"} | environment
        log = self.folder.with_name(f"{self.folder.name} {len(self.commands)}")
        self.commands.append(Command(words, self.folder, variables, log))
        return self.commands[-1]

    @property
    def journal(self) -> str:
        return str(self.folder / "tracking/studies.journal")

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Iterator[Repository]:
    """A repository whose photos are split, and whose study takes a while. No activations are in the cache yet."""
    folder = tmp_path_factory.mktemp("machines")
    origin = pipeline_world.create(folder / "origin", folder / "cache")
    origin.change(SETTINGS)
    origin.dvc("repro", "--quiet", "split")
    yield origin
    shutil.rmtree(folder)  # pytest would keep it


@pytest.fixture
def machine(origin, tmp_path) -> Iterator[Callable[[str], Machine]]:
    """Gives another checkout each time. Nothing that runs there outlives the test."""
    machines = []

    def machine(name: str) -> Machine:
        origin.copy(tmp_path / name)
        machines.append(Machine(tmp_path / name, origin.folder.parent / "cache"))
        return machines[-1]

    yield machine
    for one in machines:
        for command in one.commands:
            command.end()
        shutil.rmtree(one.folder)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as server:
        yield server


def until(condition: Callable[[], object], *commands: Command) -> object:
    """Wait for something to be true while these commands run; what it is."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        said = "".join(command.out + command.err for command in commands)
        assert not any(command.has_ended() for command in commands), said
        assert time.monotonic() < deadline, said
        time.sleep(0.02)
    return found


@functools.cache
def opened(address: str) -> Storage:
    return Storage(address)


def trials(address: str) -> list[FrozenTrial]:
    """The trials as Optuna holds them; none where the study has not begun."""
    try:
        return optuna.load_study(study_name=STUDY, storage=opened(address).optuna).trials
    except KeyError:
        return []


def in_training(address: str, pids: Callable[[], list[int]], least: int = 0) -> FrozenTrial | None:
    """A trial, from a number on, that one of these processes is in the middle of. That process is stopped there."""
    for trial in trials(address)[least:]:
        steps = trial.intermediate_values
        if trial.state.name != "RUNNING" or not 5 <= max(steps, default=0) < EPOCHS - 40:
            continue
        pid = worker(trial)
        if pid in pids():
            os.kill(pid, signal.SIGSTOP)
            now = trials(address)[trial.number]
            if now.state.name == "RUNNING" and worker(now) == pid and len(now.intermediate_values) < EPOCHS - 20:
                return now
            os.kill(pid, signal.SIGCONT)
    return None


def worker(trial: FrozenTrial) -> int:
    """The id of the process that trains, or has trained, a trial."""
    return int(trial.user_attrs["worker"].split()[-2])


def kill_in_training(address: str, pids: Callable[[], list[int]], *commands: Command) -> FrozenTrial:
    """Kill one of these processes in the middle of a trial; that trial."""
    trial = until(lambda: in_training(address, pids), *commands)
    os.kill(worker(trial), signal.SIGKILL)
    return trial


def check_study(address: str, killed: tuple[FrozenTrial, ...] = ()) -> None:
    """All trials have ended, each was trained once, those killed once more with the values that they had."""
    found = trials(address)
    assert [trial.number for trial in found] == list(range(N_TRIALS))
    assert [trial.state.name for trial in found] == ["COMPLETE"] * N_TRIALS
    assert optuna.get_all_study_names(opened(address).optuna) == [STUDY]
    again = {trial.number: trial for trial in killed}
    for trial in found:
        assert trial.params.keys() == {"head.dropout", "train.learning_rate"}
        assert sorted(trial.intermediate_values) == list(range(EPOCHS))
        assert trial.value == trial.intermediate_values[trial.user_attrs["best_epoch"]]
        assert trial.user_attrs["attempt"] == (2 if trial.number in again else 1)
        if trial.number in again:
            before = again[trial.number]
            assert trial.params == before.params
            assert trial.user_attrs["worker"] != before.user_attrs["worker"]
            assert before.intermediate_values.items() <= trial.intermediate_values.items()
    assert len({tuple(trial.params.values()) for trial in found}) == N_TRIALS


def check_runs(store: str, address: str) -> None:
    """In MLflow there are one parent and one child a trial, FINISHED, and each point is there once."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    parents = [run for run in runs if "flowers.trial" not in run.data.tags]
    children = [run for run in runs if "flowers.trial" in run.data.tags]
    assert len(parents) == 1
    parent = parents[0].info.run_id
    assert sorted(int(run.data.tags["flowers.trial"]) for run in children) == list(range(N_TRIALS))
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent}
    assert [(run.info.status, run.data.tags.get("flowers.state", "completed")) for run in runs] == [
        ("FINISHED", "completed")
    ] * (N_TRIALS + 1)
    study = trials(address)
    for run in children:
        trial = study[int(run.data.tags["flowers.trial"])]
        for metric in (SCORE, "loss"):
            points = client.get_metric_history(run.info.run_id, metric)
            assert [point.step for point in points] == list(range(EPOCHS)), (trial.number, metric)
        points = client.get_metric_history(run.info.run_id, SCORE)
        assert {point.step: point.value for point in points} == trial.intermediate_values
        assert float(run.data.params["head.dropout"]) == trial.params["head.dropout"]
    scores = client.get_metric_history(parent, "score")
    assert sorted((point.step, point.value) for point in scores) == [(trial.number, trial.value) for trial in study]
    best = {point.step: point.value for point in client.get_metric_history(parent, "best_score")}
    assert best[N_TRIALS - 1] == max(trial.value for trial in study)


def check_output(command: Command) -> None:
    assert "Traceback" not in command.err + command.out
    assert postgres.SECRET not in command.err + command.out


def test_two_machines_share_a_study_begun_at_once_and_one_goes_on_when_the_other_is_killed(server, machine, tmp_path):
    """Begun where nothing is yet: no tables, no study, no MLflow store."""
    address, store = server.create(), f"sqlite:///{tmp_path}/mlflow.db"
    commands = [machine(name).tune("--storage", address, MLFLOW_TRACKING_URI=store) for name in ("one", "other")]
    pids = [command.pid for command in commands]
    until(lambda: "Starting" in commands[0].err + commands[1].err, *commands)
    killed = kill_in_training(address, lambda: pids, *commands)
    one, other = sorted(commands, key=lambda command: command.pid != worker(killed))
    assert one.status() == -signal.SIGKILL
    assert other.status() == 0, other.err
    check_study(address, killed=(killed,))
    assert f"{N_TRIALS} of {N_TRIALS} trials: {N_TRIALS} completed" in other.out
    assert {worker(trial) for trial in trials(address)} <= {*pids}
    assert worker(trials(address)[killed.number]) == other.pid
    check_runs(store, address)
    check_output(one)
    check_output(other)


def test_two_machines_share_the_trials_of_a_study_and_both_end_well(server, machine, tmp_path):
    address, store = server.create(), f"sqlite:///{tmp_path}/mlflow.db"
    commands = [machine(name).tune("--storage", address, MLFLOW_TRACKING_URI=store) for name in ("one", "other")]
    assert [command.status() for command in commands] == [0, 0], commands[0].err + commands[1].err
    check_study(address)
    for command in commands:
        assert f"Study '{STUDY}', {N_TRIALS} of {N_TRIALS} trials: {N_TRIALS} completed" in command.out
        check_output(command)
    check_runs(store, address)


def test_without_a_server_it_is_a_line_and_status_1_within_seconds(server, machine):
    url = server.url("nowhere").replace(f":{server.port}/", f":{postgres.free_port()}/")
    begun = time.monotonic()
    command = machine("one").tune("--storage", url)
    assert command.status() == 1
    assert time.monotonic() - begun < 60  # the start of Python included, on a machine with much else to do
    place = r"postgresql://127\.0\.0\.1:\d+/nowhere"
    assert re.fullmatch(rf"error: the study storage {place} cannot be used: .*refused\n", command.err)
    check_output(command)


def test_a_server_that_stops_in_the_middle_is_a_line_and_the_same_command_goes_on_later(server, machine):
    address, one = server.create(), machine("one")
    command = one.tune(OPTUNA_STORAGE=address)
    until(lambda: "Starting" in command.err, command)

    trial = until(lambda: in_training(address, lambda: [command.pid], least=2), command)
    server.stop()
    try:
        os.kill(worker(trial), signal.SIGCONT)
        assert command.status() == 1, command.err
        until(command.is_gone)
    finally:
        server.start()
    check_output(command)
    errors = {line for line in command.err.splitlines() if line.startswith("error:")}
    place = rf"postgresql://127\.0\.0\.1:{server.port}/\w+"
    assert errors
    for error in errors:
        assert re.match(rf"error: the study storage {place} cannot be used: .*connection", error)
    interrupted = tuple(trial for trial in trials(address) if trial.state.name == "RUNNING")
    assert trial.number in [trial.number for trial in interrupted]

    again = one.tune(OPTUNA_STORAGE=address)
    assert again.status() == 0, again.err
    assert re.search(r"Resuming \(after [1-9] trials\)", again.err)
    check_study(address, killed=interrupted)
    check_runs(one.store, address)
    check_output(again)


def test_two_terminals_share_a_study_and_a_killed_trial_is_trained_again_by_the_other(machine):
    one = machine("one")
    commands = [one.tune() for _ in range(2)]
    pids = [command.pid for command in commands]
    until(lambda: Path(one.journal).exists(), *commands)
    killed = kill_in_training(one.journal, lambda: pids, *commands)
    dead, other = sorted(commands, key=lambda command: command.pid != worker(killed))
    assert dead.status() == -signal.SIGKILL
    assert other.status() == 0, other.err
    check_study(one.journal, killed=(killed,))
    assert worker(trials(one.journal)[killed.number]) == other.pid
    check_runs(one.store, one.journal)
    check_output(other)


def test_ctrl_c_ends_one_of_two_terminals_and_the_other_finishes_the_study(machine):
    one = machine("one")
    commands = [one.tune() for _ in range(2)]
    until(lambda: Path(one.journal).exists(), *commands)
    until(lambda: sum(max(trial.intermediate_values, default=0) > 5 for trial in trials(one.journal)) >= 2, *commands)
    commands[0].signal(signal.SIGINT)
    assert commands[0].status() == 130, commands[0].err
    assert commands[1].status() == 0, commands[1].err
    check_study(one.journal)
    check_runs(one.store, one.journal)
    for command in commands:
        check_output(command)


@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_the_dashboard_shows_the_study_and_needs_no_other_host(kind, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = "tracking/studies.journal" if kind == "journal" else request.getfixturevalue("server").create()
    study = optuna.create_study(storage=Storage(address).optuna, study_name=STUDY, direction="maximize")
    study.tell(study.ask({"head.dropout": optuna.distributions.FloatDistribution(0, 0.6)}), 0.75)
    port = postgres.free_port()
    program = str(Path(sys.executable).parent / "optuna-dashboard")
    dashboard = Command((program, "--port", str(port), address), tmp_path, {**os.environ}, tmp_path / "dashboard")
    try:
        (listed,) = json.loads(until(lambda: fetched(port, "/api/studies"), dashboard))["study_summaries"]
        assert listed["study_name"] == STUDY
        (trial,) = json.loads(fetched(port, f"/api/studies/{listed['study_id']}"))["trials"]
        assert (trial["state"], trial["values"]) == ("Complete", [0.75])
        page = fetched(port, "/dashboard/")
        assert "<script" in page
        assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//[^"'> ]+""", page) == []
        connections = psutil.Process(dashboard.pid).net_connections()
        assert {connection.raddr.ip for connection in connections if connection.raddr} <= {"127.0.0.1"}
    finally:
        dashboard.end()


def fetched(port: int, path: str) -> str | None:
    """A page of a server on this machine; None while it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE).read().decode()
    except ConnectionError:
        return None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError):
            return None
        raise
