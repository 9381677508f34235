"""dvc.yaml, the locks and the imports: each stage depends on exactly the modules that decide its result."""

import ast
import graphlib
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import re
import subprocess
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
IN_GIT = {path.as_posix() for path in (paths.METRICS, paths.LABELS, paths.CURVES)}

# The rooms from top to bottom: a module imports only from its own room and from rooms below.
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

# Modules that a stage imports and does not depend on: a change there must not run it again.
DECIDES_NOTHING = {
    "flowers.common": "console, errors, locks, paths and the limits of the cache: never what is computed",
    "flowers.config.parameter_types": "checks values, as params does",
    "flowers.config.params": "checks values and has no defaults; DVC tracks the values themselves",
    "flowers.config.validation_errors": "explains what is wrong with a parameter file",
}
FETCHES_ONLY = {
    "flowers.data.fetch": "model.weights imports it to provide the weights, which the download stage alone does",
    "flowers.data.npm": "likewise",
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
    return [next(iter(out)) for kind in ("outs", "metrics", "plots") for out in described.get(kind, [])]


def sources(stage: str) -> set[str]:
    """The source files and folders among a stage's dependencies."""
    return {path for path in pipeline()["stages"][stage]["deps"] if path.startswith("src/")}


class Modules:
    """The imports of each module of the package, found in its text."""

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

    def named(self, module: str) -> set[str]:
        """The modules that the import statements of a module name; those in functions and for types count, too."""
        found = set()
        for node in ast.walk(self.tree(module)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module, f"{module}: a relative import"
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {name if name in self.files else node.module for name in full}
        return found & self.files.keys()

    def imports(self, module: str) -> set[str]:
        """The modules that run when a module is imported: importing a.b.c runs a and a.b as well."""
        return {name for full in self.named(module) for name in _with_parents(full)} & self.files.keys()

    def templates(self, module: str) -> list[Path]:
        """The templates of a module: files in the folder templates beside it that its text names."""
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


def idle(modules: Modules, stage: str) -> list[str]:
    """The source dependencies of a stage that it does not import."""
    files = modules.sources(f"flowers.stages.{stage}", exempt(stage))
    return [path for path in sources(stage) if not any(Path(file).is_relative_to(path) for file in files)]


def test_a_stage_depends_on_every_module_it_imports(modules):
    assert {stage: missing(modules, stage, sources(stage)) for stage in STAGES} == {stage: [] for stage in STAGES}


def test_a_stage_depends_on_no_module_it_does_not_import(modules):
    own = STAGES[:-1]  # track also depends on the code that is part of the run key
    assert {stage: idle(modules, stage) for stage in own} == {stage: [] for stage in own}


def test_a_missing_dependency_is_found(modules):
    """The first test, tested: remove each dependency in turn."""
    for stage in STAGES[:-1]:
        for dependency in sources(stage):
            assert missing(modules, stage, sources(stage) - {dependency}), (stage, dependency)


def test_no_stage_depends_on_code_that_decides_nothing_or_on_a_recipe(modules):
    assert {name for stage in STAGES for name in exempt(stage)} <= modules.files.keys()
    others = {f"src/flowers/{name}.py" for name in ("cli/app", "__main__", "runs/mlproject", "tracking/store")}
    for stage in STAGES:
        idle = {modules.files[module].relative_to(CHECKOUT).as_posix() for module in exempt(stage)} | others
        assert [file for file in idle if covered(file, sources(stage))] == []
        dependencies = pipeline()["stages"][stage]["deps"]
        assert [path for path in dependencies if Path(path).is_relative_to(paths.RECIPES)] == []


def test_every_template_belongs_to_a_module(modules):
    """Else no stage could be found to depend on it."""
    named = {file for module in modules.files for file in modules.templates(module)}
    assert named and named == set(SOURCE.rglob("templates/*"))


def test_track_depends_on_all_that_decides_train_and_evaluate():
    """This code is part of the run key: changed code is another run, even with an equal result."""
    assert sources("track") == {*sources("train"), *sources("evaluate"), "src/flowers/tracking/run_key.py"}


def test_no_module_is_imported_by_a_name_made_at_run_time(modules):
    """Such an import could not be found in the text."""
    for module, file in modules.files.items():
        nodes = list(ast.walk(modules.tree(module)))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        assert not names & {"__import__", "import_module", "run_module", "exec"}, file


def room(module: str) -> str:
    return module.split(".")[1]


def test_no_import_runs_upwards_and_every_module_is_in_a_room(modules):
    inside = [module for module in modules.files if module.count(".")]
    assert {room(module) for module in inside} == {*ROOMS, "__main__"}
    upward = [
        f"{module} imports {imported}"
        for module in inside
        if room(module) in ROOMS
        for imported in sorted(modules.imports(module))
        if imported.count(".") and ROOMS.index(room(imported)) < ROOMS.index(room(module))
    ]
    assert upward == []


def test_no_imports_form_a_cycle(modules):
    graph = {module: modules.named(module) - {module} for module in modules.files}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_every_dependency_exists_or_is_made_by_an_earlier_stage():
    made: list[str] = []
    for stage in STAGES:
        for dependency in pipeline()["stages"][stage]["deps"]:
            path = dependency.replace("${dataset.path}", parameters()["dataset"]["path"])
            earlier = any(Path(path).is_relative_to(out) or Path(out).is_relative_to(path) for out in made)
            assert earlier or (CHECKOUT / path).exists(), dependency
        made += outputs(stage)


def test_every_stage_is_a_module_and_a_command_of_the_same_name():
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert [name for name, command in commands.items() if command.rich_help_panel == STAGES_HEADING] == [*STAGES]
    assert {file.stem for file in (SOURCE / "flowers/stages").glob("*.py")} == {"__init__", *STAGES}
    assert [*pipeline()["stages"]] == [*STAGES]
    for stage in STAGES:
        assert pipeline()["stages"][stage]["cmd"] == f"PYTHONPATH=src python -m flowers {stage}"
        assert callable(importlib.import_module(f"flowers.stages.{stage}").run)


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


def test_every_parameter_that_a_stage_depends_on_exists():
    for stage in STAGES:
        here, there = keys(stage)
        for document, names in ((parameters(), here), (project(), there)):
            for name in filter(None, names):
                value = document
                for part in name.split("."):
                    value = value[part]


def test_a_stage_depends_on_the_parameters_of_its_arguments():
    sections = {field.annotation: [name] for name, field in params.Params.model_fields.items()}
    sections[params.Params] = [name for name in params.Params.model_fields if name not in params.DECIDE_NO_RESULT]
    for stage in STAGES:
        run = importlib.import_module(f"flowers.stages.{stage}").run
        arguments = typing.get_type_hints(run)
        given = [arguments[name] for name in inspect.signature(run).parameters]
        needed = [name for kind in given for name in sections.get(kind, [])]
        if stage == "download":
            assert "weights" in arguments  # a plain value, not a section
            needed.append("model.weights")
        assert sorted(keys(stage)[0]) == sorted(needed), stage


def test_stages_that_compute_depend_on_the_versions_of_the_numeric_packages():
    assert [keys(stage)[1] for stage in ("train", "evaluate", "track")] == [["tool.flowers.numerics"]] * 3


def test_every_output_is_in_the_module_paths():
    files = {value for name, value in vars(paths).items() if isinstance(value, Path) and name.isupper()}
    files -= {paths.PARAMS, paths.BUILD, paths.EVALUATION, paths.TRACKING}  # no output, or a folder of several outputs
    files -= {paths.RECIPES}  # written by hand
    files -= {paths.CHECKPOINT, paths.STUDIES}  # removed at the end of the stage; of no stage
    files -= {
        paths.CHECK_PAGE,
        paths.DOUBTFUL,
        paths.COMPARISON,
    }  # of no stage: `flowers check` and `compare` write them
    made = [Path(out) for stage in STAGES for out in outputs(stage)]
    assert {file for file in files if not any(file.is_relative_to(out) for out in made)} == set()
    assert {out for out in made if not any(file.is_relative_to(out) for file in files)} == set()


def test_no_output_is_ever_pushed():
    for stage in STAGES:
        described = pipeline()["stages"][stage]
        for entry in [*described["outs"], *described.get("metrics", []), *described.get("plots", [])]:
            ((path, options),) = entry.items()
            kept = {name: options[name] for name in ("cache", "push", "persist") if name in options}
            own = {"cache": False} if path in IN_GIT else {"push": False}
            assert kept == ({"cache": False, "persist": True} if stage == "track" else own), path


def test_git_tracks_the_files_that_diffs_and_verify_need_and_no_other_output():
    tracked = subprocess.run(["git", "ls-files", "build"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert tracked.stdout.split() == sorted(IN_GIT)


def test_the_only_remote_is_for_the_data():
    config = (CHECKOUT / ".dvc/config").read_text(encoding="utf-8")
    assert re.findall(r"remote +\"(\w+)\"", config) == ["sample"]
    assert re.findall(r"^\s*remote\s*=\s*(\w+)", config, re.MULTILINE) == ["sample"]  # else `dvc pull data.dvc` warns
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
def test_every_locked_requirement_is_pinned_and_hashed_without_an_address(lock):
    assert len(locked(lock)) > 50
    for name, entries in locked(lock).items():
        for entry in entries:
            assert re.match(rf"{re.escape(name)}==[\w.+!]+( ;.*?)? +--hash=sha256:[0-9a-f]{{64}}", entry), entry[:80]
    text = (CHECKOUT / lock).read_text(encoding="utf-8")
    assert [word for word in ("://", "index-url", "find-links") if word in text] == []


def test_the_gpu_lock_is_the_cpu_lock_with_cuda_and_without_the_cpu_build():
    usual, gpu = ({name: set(entries) for name, entries in locked(lock).items()} for lock in (LOCK, GPU_LOCK))
    (cpu_build,) = gpu.pop("tensorflow-cpu")
    assert "; sys_platform == 'never'" in cpu_build
    (tensorflow,) = gpu.pop("tensorflow")
    assert ";" not in tensorflow and tensorflow.split()[0] == f"tensorflow=={next(iter(pins('tensorflow')))}"
    added = {name: entries for name, entries in gpu.items() if name not in usual}
    assert added and all(name.startswith("nvidia-") for name in added)
    for name in {*usual} - {"tensorflow", "tensorflow-cpu"}:
        assert {entry.split()[0] for entry in gpu[name]} == {entry.split()[0] for entry in usual[name]}, name


def test_the_lock_meets_the_requirements_of_the_project():
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


def test_the_numeric_versions_are_locked_and_installed():
    table = project()["tool"]["flowers"]["numerics"]
    assert {"tensorflow", "keras", "numpy"} <= table.keys()
    assert pins("tensorflow-cpu") == {table["tensorflow"]}
    for name, version in table.items():
        assert pins(name) == {version}, name
        found = [each.version for each in importlib.metadata.distributions(name=name)]
        found += [each.version for each in importlib.metadata.distributions(name=f"{name}-cpu")]
        assert {*found} == {version}, f"{name}: install requirements.lock"


def test_the_committed_dvc_lock_is_up_to_date():
    """Else the first `dvc repro` of a fresh clone would change it: run `dvc repro` before a commit."""
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
