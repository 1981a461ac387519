"""Puts the seven binaries into the wheel, as scripts, with their manual pages, completions and settings.

maturin packs the binaries of one package of Cargo's, and these are seven packages of a workspace; a package that built them all would
compile every stage twice. A wheel needs no more than to hold them in its folder of scripts, and Hatchling puts them there.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAMES = ["gro", "gro-preprocess", "gro-train", "gro-defend", "gro-attack", "gro-evaluate", "gro-serve"]


class Binaries(BuildHookInterface):  # type: ignore[type-arg]
    """Takes the binaries from ``GRO_BINARIES`` or, without it, has ``make build`` build them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable install is of the sources alone.
        if version == "editable":
            return
        root = Path(self.root).resolve().parent
        given = os.environ.get("GRO_BINARIES")
        if given is None:
            subprocess.run(["make", "build"], cwd=root, check=True)
        binaries = Path(given) if given else root / "target" / "release"
        tree = root / "target" / "wheel-tree"
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run([root / "packaging" / "tree.sh", binaries, tree], check=True)
        with open(tree / "share" / "doc" / "gro" / "LICENCES", "wb") as licences:
            arguments = [features] if (features := os.environ.get("FEATURES")) else []
            subprocess.run([root / "packaging" / "licences.sh", *arguments], stdout=licences, check=True)

        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag([tree / 'bin' / name for name in NAMES])}"
        build_data["shared_scripts"].update({str(tree / "bin" / name): name for name in NAMES})
        build_data["shared_data"][str(tree / "share")] = "share"
        for path in sorted((tree / "share" / "gro").glob("*.yaml")):
            build_data["force_include"][str(path)] = f"gro/settings/{path.name}"


def platform_tag(binaries: list[Path]) -> str:
    """The machines that the binaries start on: on Linux, those whose glibc has every version that they ask for."""
    if platform.system() == "Linux" and os.environ.get("FEATURES") != "cuda":
        asked = {
            (int(major), int(minor))
            for path in binaries
            for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", path.read_bytes())
        }
        if asked:
            major, minor = max(asked)
            return f"manylinux_{major}_{minor}_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
