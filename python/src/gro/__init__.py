"""The laboratory from Python: run its stages, and read what they write as data frames.

>>> import gro
>>> gro.run("preprocess synth", users=600, items=200, interactions=24000, out="raw")
>>> data = gro.run("preprocess run", config=["demo"], input="raw", out="data")
>>> target = gro.run("train", config=["demo", "bert"], data=data, out="target")
>>> gro.history(target).plot(y="ndcg@10")

Every file, column and key is described in ``docs/artifacts.md`` of the project.
"""

from gro._files import (
    Dataset,
    header,
    history,
    metrics,
    queries,
    questions,
    ranks,
    report,
)
from gro._stages import Failed, Outcome, Progress, Refused, names, run, settings
from gro._wandb import to_wandb

__all__ = [
    "Dataset",
    "Failed",
    "Outcome",
    "Progress",
    "Refused",
    "header",
    "history",
    "metrics",
    "names",
    "queries",
    "questions",
    "ranks",
    "report",
    "run",
    "settings",
    "to_wandb",
]
