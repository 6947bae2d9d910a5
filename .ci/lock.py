"""Write requirements.lock: the newest versions that pyproject.toml allows, for every Python we support.

In: pyproject.toml's dependencies and extras. Out: one pinned line a package, with environment markers where
the versions of Python disagree. `make lock` runs it; nothing is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# pip evaluates the markers of dependencies for the Python it runs on: what only an older one needs is here.
ONLY_ON = {"3.10": ["exceptiongroup", "tomli"]}
HEADER = """\
# Exact versions for every Python that tilewright supports, written by `make lock`: a pip constraints file.
"""


def requirements() -> list[str]:
    """All requirements of the project with its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    return [*project["dependencies"], *extras]


def resolve(python: str, wanted: list[str]) -> dict[str, str]:
    """The versions that pip chooses for one version of Python, by package name."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--report", "-", "--python-version", python, "--only-binary", ":all:", "--target", "unused"]
    command += [*wanted, *ONLY_ON.get(python, [])]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = [package["metadata"] for package in report["install"]]
    return {str(package["name"]).lower().replace("_", "-"): str(package["version"]) for package in packages}


def merge(resolved: dict[str, dict[str, str]]) -> list[str]:
    """One line a package and version; a marker where not every Python takes that version.

    Pythons are taken in order, so the versions of one package form runs, and a run is a range of Pythons.
    """
    lines: list[str] = []
    for name in sorted({name for versions in resolved.values() for name in versions}):
        by_version: dict[str, list[str]] = {}
        for python, versions in resolved.items():
            if name in versions:
                by_version.setdefault(versions[name], []).append(python)
        for version, pythons in by_version.items():
            bounds = [f"python_version >= '{pythons[0]}'"] * (pythons[0] != PYTHONS[0])
            bounds += [f"python_version <= '{pythons[-1]}'"] * (pythons[-1] != PYTHONS[-1])
            lines.append(f"{name}=={version}" + (" ; " + " and ".join(bounds) if bounds else ""))
    return lines


if __name__ == "__main__":
    wanted = requirements()
    lines = merge({python: resolve(python, wanted) for python in PYTHONS})
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(lines) + "\n")
    print(f"requirements.lock: {len(lines)} lines for Python {PYTHONS[0]} to {PYTHONS[-1]}")
