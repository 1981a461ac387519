"""Brings runs that ``gro-evaluate report --mlflow`` wrote to Weights & Biases, whose own importer (version 0.19 had one) is gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from gro._files import StrPath

Mode = Literal["online", "offline"]


def to_wandb(mlruns: StrPath, project: str, *, entity: str | None = None, mode: Mode = "online", folder: StrPath | None = None) -> list[str]:
    """Logs every run of the folder ``mlruns`` to a project of Weights & Biases, and returns their names.

    A run keeps its parameters (as config), metrics with their epochs, tags and files, and its experiment becomes its group. Runs have the
    ids they have in the folder, which follow from the report's last two directories and the run's name, so that none is doubled: one that was
    logged to the project before is overridden, by what Weights & Biases say. ``mode="offline"`` writes below ``folder``
    (the working directory where it is left out), which ``wandb sync`` uploads later. ``pip install wandb`` comes first.

    >>> gro.to_wandb("mlruns", project="gro")
    """
    import wandb
    import yaml

    root = Path(os.fspath(mlruns))
    # MLflow keeps what was deleted in a folder that begins with a dot.
    homes = sorted(meta.parent for meta in root.glob("[!.]*/*/meta.yaml"))
    if not homes:
        raise FileNotFoundError(f"{root} holds no runs, which `gro-evaluate report --mlflow {root}` writes")
    names: list[str] = []
    for home in homes:
        meta = yaml.safe_load((home / "meta.yaml").read_text(encoding="utf-8"))
        if meta.get("lifecycle_stage", "active") != "active":
            continue
        experiment = yaml.safe_load((home.parent / "meta.yaml").read_text(encoding="utf-8"))
        tags = _values(home / "tags")
        with wandb.init(
            project=project,
            entity=entity,
            mode=mode,
            dir=None if folder is None else os.fspath(folder),
            id=str(meta["run_id"]),
            name=str(meta["run_name"]),
            group=str(experiment["name"]),
            job_type=tags.get("gro.kind"),
            config={**_values(home / "params"), **tags},
            # No links by name, for the folder may be written anew before an offline run is uploaded.
            settings=wandb.Settings(symlink=False),
        ) as run:
            for step, values in sorted(_steps(home / "metrics").items()):
                run.log(values, step=step)
            for file in sorted(path for path in (home / "artifacts").glob("*") if path.is_file()):
                run.save(str(file), base_path=str(file.parent), policy="now")
        names.append(str(meta["run_name"]))
    return names


def _values(folder: Path) -> dict[str, str]:
    """Parameters or tags: a file each."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


def _steps(folder: Path) -> dict[int, dict[str, float]]:
    """Metrics by their step; a file holds one metric, in lines of a time, a value and a step."""
    steps: dict[int, dict[str, float]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        for line in path.read_text(encoding="utf-8").splitlines():
            _, value, step = line.split()
            steps.setdefault(int(step), {})[path.relative_to(folder).as_posix()] = float(value)
    return steps
