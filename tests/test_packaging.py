"""The wheel holds every module of the tree, and imports keep to their files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"hamiltonian_rl": "hamiltonian_rl", "agents": "hamiltonian_rl/agents", "envs": "hamiltonian_rl/envs"}


def modules_of_the_tree() -> set[str]:
    """Every module below the three source folders, as the path that it must have in the wheel."""
    found = set()
    for folder, target in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            relative = path.relative_to(ROOT / folder)
            if folder != "hamiltonian_rl" or relative.parts[0] not in ("agents", "envs"):
                found.add(f"{target}/{relative.as_posix()}")
    return found


def test_the_wheel_holds_every_module_and_every_tuned_setting(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if name.endswith(".py")} == modules_of_the_tree()
    tuned = {f"hamiltonian_rl/agents/tuned/{path.name}" for path in (ROOT / "agents" / "tuned").glob("*.toml")}
    assert tuned | {"hamiltonian_rl/py.typed"} <= names


@pytest.mark.parametrize(
    ("module", "files"),
    [
        ("stable_baselines3", {"agents/sb3.py", "envs/vec_env.py"}),
        ("torch.utils.tensorboard", {"hamiltonian_rl/tracking/tensorboard.py"}),
    ],
)
def test_a_heavy_library_is_imported_where_it_belongs_and_nowhere_else(module, files):
    pattern = re.compile(rf"^\s*(import|from) {re.escape(module)}\b", re.MULTILINE)
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not path.parent.is_symlink()]
    importers = {path.resolve().relative_to(ROOT).as_posix() for path in sources if pattern.search(path.read_text())}
    assert importers == files


def test_the_constraints_pin_all_that_the_project_depends_on():
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [need for needs in project["optional-dependencies"].values() for need in needs]
    for need in [*project["dependencies"], *extras]:
        name = re.match(r"[\w-]+", need)[0]
        assert name in pins or name == "hamiltonian-rl", name
    assert pins["torch"] == "2.13.0"
    assert "torchvision" not in pins


def test_files_and_functions_stay_short():
    """A reader's patience: 250 lines a file and 30 a function are the aim, these are the bounds."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            assert text.count("\n") <= 470, path
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.body[0].lineno < 60, f"{path}: {node.name}"
