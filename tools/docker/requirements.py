"""Turns setup.cfg and the pins into what the image of one device installs, so that no list is kept twice.

    python tools/docker/requirements.py cpu|gpu|tpu FOLDER

FOLDER gets `requirements.txt` (what tfapp and its extras need, without what its tests need), `constraints.txt` (the
pins of tools/constraints.txt, those of tools/constraints-DEVICE.txt in their place), and for cpu and tpu an empty
package `tensorflow`. That one ships nothing and requires tensorflow-cpu or tensorflow-tpu, which hold the same modules
under another name: so pip resolves and checks the whole without an exception, and no file is there twice.
"""

from __future__ import annotations

import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The package that holds TensorFlow's modules where it is not `tensorflow`.
BUILDS = {"cpu": "tensorflow-cpu", "gpu": None, "tpu": "tensorflow-tpu"}


def needs(device: str) -> list[str]:
    """What to ask pip for: setup.cfg's requirements and extras, and CUDA for gpu."""
    cfg = ConfigParser()
    cfg.read(ROOT / "setup.cfg")
    extras = cfg["options.extras_require"]
    texts = [cfg["options"]["install_requires"], *(extras[name] for name in extras if name not in ("all", "dev"))]
    lines = [line for text in texts for line in text.splitlines() if line and not line.startswith("#")]
    return [*lines, *(["tensorflow[and-cuda]"] if device == "gpu" else [])]


def pins(device: str) -> dict[str, str]:
    """Package and version; a device's own pin stands in place of the common one."""
    files = (ROOT / "tools" / "constraints.txt", ROOT / "tools" / f"constraints-{device}.txt")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def write_empty(name: str, version: str, requires: str, folder: Path) -> Path:
    """A wheel of metadata alone, which requires another package.

    Format: https://packaging.python.org/en/latest/specifications/binary-distribution-format
    """
    info = f"{name}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        f"Summary: empty: the modules are those of {requires}\nRequires-Dist: {requires}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tfapp\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return wheel


def main(device: str, folder: Path) -> None:
    pinned = pins(device)
    build = BUILDS[device]
    if build:
        version = pinned["tensorflow"]
        wheel = write_empty("tensorflow", version, f"{build}=={version}", folder)
        pinned["tensorflow"] = wheel.as_uri()
    lines = [f"{name} @ {pin}" if pin.startswith("file:") else f"{name}=={pin}" for name, pin in pinned.items()]
    (folder / "constraints.txt").write_text("\n".join(lines) + "\n")
    (folder / "requirements.txt").write_text("\n".join(needs(device)) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in BUILDS:
        sys.exit(f"usage: requirements.py {'|'.join(BUILDS)} FOLDER")
    main(sys.argv[1], Path(sys.argv[2]).resolve())
