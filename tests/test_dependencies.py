"""dvc.yaml against the code: a stage depends on every module that decides its result, and on nothing that does not."""

import ast
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import re
import tomllib
import typing
from pathlib import Path

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from flowers import cli
from flowers.cli.app import STAGES as STAGES_HEADING
from flowers.common import paths
from flowers.config import params

CHECKOUT = Path(__file__).parents[1]
SOURCE = CHECKOUT / "src"
STAGES = ("download", "split", "train", "evaluate", "track")

# The rooms from the top floor down: a module imports only from its own room and from rooms below.
ROOMS = (
    "cli",
    "serving",
    "runs",
    "tuning",
    "stages",
    "tracking",
    "reporting",
    "training",
    "model",
    "metrics",
    "data",
    "config",
    "common",
)

# What a stage imports and does not depend on: a change there must run nothing again.
DECIDES_NOTHING = {
    "flowers.common": "console, errors, locks, paths and the limits of the cache: never what is computed",
    "flowers.config.params": "checks values and has no defaults; DVC tracks the values themselves",
    "flowers.config.validation_errors": "explains what is wrong with a parameter file",
}
FETCHES_ONLY = {
    "flowers.data.fetch": "model.weights imports it to provide the weights, which the download stage alone does",
}
PUBLISHES_ONLY = {
    "flowers.stages.track": "writes a marker; another way to publish does not change the result",
    "flowers.tracking": "speaks to MLflow; `flowers track --force` publishes again",
}


def pipeline() -> dict:
    return YAML(typ="safe").load(CHECKOUT / "dvc.yaml")


def parameters() -> dict:
    return YAML(typ="safe").load(CHECKOUT / "params.yaml")


def project() -> dict:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))


def outputs(stage: str) -> list[str]:
    described = pipeline()["stages"][stage]
    return [next(iter(out)) for kind in ("outs", "metrics") for out in described.get(kind, [])]


def sources(stage: str) -> set[str]:
    """The source files and folders among a stage's dependencies."""
    return {path for path in pipeline()["stages"][stage]["deps"] if path.startswith("src/")}


class Modules:
    """What each module of the package imports, found in its text: imports inside functions count, too."""

    def __init__(self, source: Path) -> None:
        self.files: dict[str, Path] = {}
        self._trees: dict[str, ast.Module] = {}
        for file in sorted((source / "flowers").rglob("*.py")):
            parts = file.relative_to(source).with_suffix("").parts
            self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file

    def tree(self, module: str) -> ast.Module:
        if module not in self._trees:
            self._trees[module] = ast.parse(self.files[module].read_text(encoding="utf-8"))
        return self._trees[module]

    def is_empty(self, module: str) -> bool:
        """Whether a module holds nothing but its docstring."""
        body = self.tree(module).body
        return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)

    def imports(self, module: str) -> set[str]:
        found = set()
        for node in ast.walk(self.tree(module)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module, f"{module}: a relative import"
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        # Importing a.b.c runs a and a.b as well.
        names = {name for full in found for name in _with_parents(full)}
        return names & self.files.keys()

    def templates(self, module: str) -> list[Path]:
        """The pages that a module fills in: files in the folder templates beside it that its text names."""
        nodes = (node for node in ast.walk(self.tree(module)) if isinstance(node, ast.Constant))
        names = {node.value for node in nodes if isinstance(node.value, str) and node.value.endswith(".html")}
        folder = self.files[module].parent / "templates"
        return [folder / name for name in sorted(names) if (folder / name).is_file()]

    def sources(self, start: str, stop: set[str]) -> list[str]:
        """The files of the modules that `start` imports, and their templates."""
        reached = self.reached(start, stop)
        files = [file for module in reached for file in (self.files[module], *self.templates(module))]
        return [file.relative_to(CHECKOUT).as_posix() for file in files]

    def reached(self, start: str, stop: set[str]) -> set[str]:
        """The modules that `start` imports, directly or not, without those below the names in `stop`."""
        found, waiting = set(), {start, *_with_parents(start)}
        while waiting:
            module = waiting.pop()
            if module in found or stop & _with_parents(module):
                continue
            found.add(module)
            waiting |= self.imports(module)
        return {module for module in found if not self.is_empty(module)}


def _with_parents(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[: length + 1]) for length in range(len(parts))}


@pytest.fixture(scope="module")
def modules() -> Modules:
    return Modules(SOURCE)


def covered(file: str, dependencies: set[str]) -> bool:
    return any(Path(file).is_relative_to(dependency) for dependency in dependencies)


def exempt(stage: str) -> set[str]:
    own = {"train": FETCHES_ONLY, "evaluate": FETCHES_ONLY, "track": PUBLISHES_ONLY}
    return {*DECIDES_NOTHING, *own.get(stage, ())}


def missing(modules: Modules, stage: str, dependencies: set[str]) -> list[str]:
    """The files that a stage imports, or fills in, and does not depend on."""
    files = modules.sources(f"flowers.stages.{stage}", exempt(stage))
    return sorted(file for file in files if not covered(file, dependencies))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_it_imports(modules, stage):
    assert missing(modules, stage, sources(stage)) == []


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "track"])
def test_a_dependency_left_out_would_be_noticed(modules, stage):
    """The test above, tested: take each dependency away in turn."""
    for dependency in sources(stage):
        assert missing(modules, stage, sources(stage) - {dependency})


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "track"])
def test_a_stage_depends_on_no_module_it_does_not_import(modules, stage):
    files = modules.sources(f"flowers.stages.{stage}", exempt(stage))
    idle = [path for path in sources(stage) if not any(Path(file).is_relative_to(path) for file in files)]
    assert idle == []


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_depends_on_what_decides_nothing(modules, stage):
    idle = {modules.files[module].relative_to(CHECKOUT).as_posix() for module in exempt(stage)}
    idle |= {
        f"src/flowers/{name}.py" for name in ("cli/app", "__main__", "runs/mlproject", "tracking/store", "config/edit")
    }
    assert [file for file in idle if covered(file, sources(stage))] == []


def test_no_stage_depends_on_a_recipe():
    """Its values are in params.yaml, key by key; what was measured of it decides nothing."""
    files = [path for stage in STAGES for path in pipeline()["stages"][stage]["deps"]]
    assert [path for path in files if Path(path).is_relative_to(paths.RECIPES)] == []


def test_every_template_belongs_to_a_module(modules):
    """Else no stage could be found to depend on it."""
    named = {file for module in modules.files for file in modules.templates(module)}
    assert named and named == set(SOURCE.rglob("templates/*"))


def test_what_decides_nothing_is_still_there(modules):
    assert {name for stage in STAGES for name in exempt(stage)} <= modules.files.keys()


def test_track_depends_on_all_that_decides_train_and_evaluate():
    """The key of a run is made of it: code that changed is another run, even where the result is the same."""
    assert sources("track") == {*sources("train"), *sources("evaluate"), "src/flowers/tracking/run_key.py"}


def test_no_module_is_imported_by_a_name_made_at_run_time(modules):
    """It could not be found in the text."""
    for module, file in modules.files.items():
        nodes = list(ast.walk(modules.tree(module)))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        assert not names & {"__import__", "import_module", "run_module", "exec"}, file


def room(module: str) -> str:
    return module.split(".")[1]


def test_no_import_runs_upwards(modules):
    """Imports inside functions count, too."""
    upward = [
        f"{module} imports {imported}"
        for module in modules.files
        if module.count(".") and room(module) in ROOMS
        for imported in sorted(modules.imports(module))
        if imported.count(".") and ROOMS.index(room(imported)) < ROOMS.index(room(module))
    ]
    assert upward == []


def test_every_module_is_in_a_room(modules):
    assert {room(module) for module in modules.files if module.count(".")} == {*ROOMS, "__main__"}


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_is_there_or_made_by_an_earlier_stage(stage):
    earlier = [out for before in STAGES[: STAGES.index(stage)] for out in outputs(before)]
    for dependency in pipeline()["stages"][stage]["deps"]:
        path = dependency.replace("${dataset.path}", parameters()["dataset"]["path"])
        made = any(Path(path).is_relative_to(out) or Path(out).is_relative_to(path) for out in earlier)
        assert made or (CHECKOUT / path).exists(), dependency


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_of_the_pipeline_is_a_module_and_a_command_of_the_same_name(stage):
    command = typer.main.get_command(cli.app).commands[stage]  # type: ignore[attr-defined]
    assert command.rich_help_panel == STAGES_HEADING
    assert pipeline()["stages"][stage]["cmd"] == f"PYTHONPATH=src python -m flowers {stage}"
    assert callable(importlib.import_module(f"flowers.stages.{stage}").run)


def test_there_is_no_other_stage():
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert [name for name, command in commands.items() if command.rich_help_panel == STAGES_HEADING] == [*STAGES]
    assert [*pipeline()["stages"]] == [*STAGES]
    modules = {file.stem for file in (SOURCE / "flowers/stages").glob("*.py")}
    assert modules == {"__init__", *STAGES}


def keys(stage: str) -> tuple[list[str], list[str]]:
    """The keys of params.yaml and of pyproject.toml that a stage depends on; an empty key is the whole file."""
    here, there = [], []
    for entry in pipeline()["stages"][stage]["params"]:
        if isinstance(entry, str):
            here.append(entry)
        elif "params.yaml" in entry:
            here += entry["params.yaml"] or [""]
        else:
            there += entry["pyproject.toml"]
    return here, there


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_a_stage_depends_on_exists(stage):
    here, there = keys(stage)
    for document, names in ((parameters(), here), (project(), there)):
        for name in filter(None, names):
            value = document
            for part in name.split("."):
                value = value[part]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_parameters_it_is_handed(stage):
    sections = {field.annotation: [name] for name, field in params.Params.model_fields.items()}
    sections[params.Params] = [name for name in params.Params.model_fields if name not in params.DECIDE_NO_RESULT]
    run = importlib.import_module(f"flowers.stages.{stage}").run
    handed = typing.get_type_hints(run)
    given = [handed[name] for name in inspect.signature(run).parameters]
    needed = [name for kind in given for name in sections.get(kind, [])]
    if stage == "download":
        assert "weights" in handed  # a plain value, not a section
        needed.append("model.weights")
    assert sorted(keys(stage)[0]) == sorted(needed)


@pytest.mark.parametrize("stage", ["train", "evaluate", "track"])
def test_what_computes_depends_on_the_versions_of_the_numeric_packages(stage):
    assert keys(stage)[1] == ["tool.flowers.numerics"]


def test_every_output_has_its_place_in_paths():
    files = {value for name, value in vars(paths).items() if isinstance(value, Path) and name.isupper()}
    files -= {paths.PARAMS, paths.BUILD, paths.EVALUATION, paths.TRACKING}  # no output, or the folder of several
    files -= {paths.RECIPES}  # written by hand
    files -= {paths.CHECKPOINT, paths.STUDIES}  # gone when the stage ends; of no stage
    files -= {paths.CHECK_PAGE, paths.DOUBTFUL}  # of no stage: `flowers check` writes them
    made = [Path(out) for stage in STAGES for out in outputs(stage)]
    assert {file for file in files if not any(file.is_relative_to(out) for out in made)} == set()
    assert {out for out in made if not any(file.is_relative_to(out) for file in files)} == set()


def test_no_output_is_ever_pushed():
    for stage in STAGES:
        described = pipeline()["stages"][stage]
        for entry in [*described["outs"], *described.get("metrics", [])]:
            ((path, options),) = entry.items()
            assert options == ({"cache": False, "persist": True} if stage == "track" else {"push": False}), path


def test_the_only_remote_serves_the_data_alone():
    config = (CHECKOUT / ".dvc/config").read_text(encoding="utf-8")
    assert re.findall(r"remote +\"(\w+)\"", config) == ["sample"]
    assert not re.search(r"^\s*remote\s*=", config, re.MULTILINE)  # no default
    (out,) = YAML(typ="safe").load(CHECKOUT / "data.dvc")["outs"]
    assert (out["path"], out["remote"]) == ("data", "sample")


LOCK, GPU_LOCK = "requirements.lock", "requirements-gpu.lock"


def locked(lock: str = LOCK) -> dict[str, list[str]]:
    """Every requirement of a lock by name: its entries, each in one line."""
    text = (CHECKOUT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    entries: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        entries.setdefault(canonicalize_name(re.split(r"[ =<>;\[]", line)[0]), []).append(line)
    return entries


def pins(name: str) -> set[str]:
    return {re.split(r"[ ;]", entry.split("==")[1])[0] for entry in locked().get(canonicalize_name(name), [])}


@pytest.mark.parametrize("lock", [LOCK, GPU_LOCK])
def test_every_locked_requirement_is_pinned_and_hashed(lock):
    assert len(locked(lock)) > 50
    for name, entries in locked(lock).items():
        for entry in entries:
            assert re.match(rf"{re.escape(name)}==[\w.+!]+( ;.*?)? +--hash=sha256:[0-9a-f]{{64}}", entry), entry[:80]


@pytest.mark.parametrize("lock", [LOCK, GPU_LOCK])
def test_the_lock_holds_no_address(lock):
    text = (CHECKOUT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text and "find-links" not in text


def test_the_lock_for_a_gpu_is_the_other_one_with_cuda_and_without_the_cpu_build():
    usual, gpu = ({name: set(entries) for name, entries in locked(lock).items()} for lock in (LOCK, GPU_LOCK))
    (cpu_build,) = gpu.pop("tensorflow-cpu")
    assert "; sys_platform == 'never'" in cpu_build
    (tensorflow,) = gpu.pop("tensorflow")
    assert ";" not in tensorflow and tensorflow.split()[0] == f"tensorflow=={next(iter(pins('tensorflow')))}"
    added = {name: entries for name, entries in gpu.items() if name not in usual}
    assert added and all(name.startswith("nvidia-") for name in added)
    for name in {*usual} - {"tensorflow", "tensorflow-cpu"}:
        assert {entry.split()[0] for entry in gpu[name]} == {entry.split()[0] for entry in usual[name]}, name


def test_the_lock_holds_what_the_project_asks_for():
    described = project()["project"]
    extras = described["optional-dependencies"]
    asked = [text for name in ("dev", "dashboard", "postgresql") for text in extras[name]]
    for text in [*described["dependencies"], *asked]:
        wanted = Requirement(text)
        if wanted.name == described["name"]:  # its own extras
            continue
        found = pins(wanted.name)
        assert found, text
        assert all(wanted.specifier.contains(version, prereleases=True) for version in found), text


def test_the_numeric_versions_are_those_of_the_lock():
    table = project()["tool"]["flowers"]["numerics"]
    assert {"tensorflow", "keras", "numpy"} <= table.keys()
    for name, version in table.items():
        assert pins(name) == {version}, name
    assert pins("tensorflow-cpu") == {table["tensorflow"]}


def test_the_numeric_versions_are_those_installed():
    for name, version in project()["tool"]["flowers"]["numerics"].items():
        for distribution in (name, f"{name}-cpu"):
            try:
                installed = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
            assert installed == version, f"{distribution}: install requirements.lock"
            break
        else:
            pytest.fail(f"{name} is not installed")


def test_the_committed_lock_names_the_files_as_they_are():
    """Otherwise the first `dvc repro` of a fresh clone would change it: run `dvc repro` before you commit."""
    stages = YAML(typ="safe").load((CHECKOUT / "dvc.lock").read_text())["stages"]
    dependencies = {each["path"]: each["md5"] for stage in stages.values() for each in stage["deps"]}
    own = {path: md5 for path, md5 in dependencies.items() if not path.startswith("build/")}
    assert {path for path, md5 in own.items() if md5 != dvc_md5(CHECKOUT / path)} == set()


def dvc_md5(path: Path) -> str:
    """The hash of a file or a folder as DVC writes it."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = [file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    entries = [{"md5": dvc_md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return f"{hashlib.md5(listing.encode()).hexdigest()}.dir"
