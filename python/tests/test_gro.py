"""The installed wheel, from its binaries on the PATH to the frames, on ratings that it makes up itself."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tempfile
import unittest
import unittest.mock
import warnings
from pathlib import Path

import pandas as pd
import polars as pl
import wandb

import gro

BINARIES = ["gro", "gro-preprocess", "gro-train", "gro-defend", "gro-attack", "gro-evaluate", "gro-serve"]
SMALL = {
    "model.hidden": 16,
    "model.max_len": 10,
    "train.epochs": 2,
    "distill.epochs": 1,
    "generate.sequences": 12,
    "generate.length": 8,
    "generate.top_k": 20,
    "evaluate.ks": [1, 10, 20],
    "evaluate.top_k": 20,
    "evaluate.bootstrap": 100,
}


class Experiment(unittest.TestCase):
    """One experiment, run once, and what is read of it."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        home = Path(cls.folder.name)
        shown = {"config": ["demo", "bert"], "set": SMALL, "progress": False}
        cls.raw = gro.run("preprocess synth", users=120, items=60, interactions=3600, seed=1, out=home / "raw", progress=False)
        cls.data = gro.run("preprocess run", input=cls.raw, out=home / "data", **shown)
        cls.seen: list[gro.Progress] = []
        watched = {**shown, "progress": cls.seen.append}
        cls.target = gro.run("train", data=cls.data, out=home / "target", **watched)
        cls.protected = gro.run("defend", data=cls.data, target=cls.target, method="none", out=home / "protected", **shown)
        cls.log = gro.run("attack generate", target=cls.protected, out=home / "queries", **shown)
        cls.copy = gro.run("attack distill", queries=cls.log, surrogate="bert", out=home / "copy", **shown)
        cls.evaluated = gro.run("evaluate run", data=cls.data, target=cls.protected, surrogate=cls.copy, out=home / "eval", **shown)
        cls.reported = gro.run("evaluate report", runs=[cls.evaluated], out=home / "report", progress=False)

    def test_a_dataset_is_frames(self) -> None:
        data = gro.Dataset(self.data)
        sequences, items, users = data.sequences(), data.items(), data.users()
        self.assertEqual(len(data), len(sequences))
        self.assertEqual(list(items.columns), ["item", "raw_id", "count"])
        self.assertEqual(list(users["user"]), list(range(1, len(users) + 1)))
        interactions = data.interactions()
        self.assertEqual(len(interactions), items["count"].sum())
        first = interactions[interactions["user"] == 1]
        row = sequences.iloc[0]
        self.assertEqual(list(first["item"]), [*row["train"], row["valid"], row["test"]])
        self.assertEqual(list(first["split"])[-3:], ["train", "valid", "test"])
        self.assertEqual(list(first["place"]), list(range(1, len(first) + 1)))
        self.assertIsInstance(data.items("polars"), pl.DataFrame)
        self.assertEqual(data.stats["users"], len(data))

    def test_a_history_has_a_row_an_epoch(self) -> None:
        history = gro.history(self.target)
        self.assertEqual(list(history["epoch"])[:3], [0, 1, 2])
        self.assertTrue(pd.isna(history["loss"][0]) and history["loss"][1] > 0)
        self.assertIn("ndcg@10", gro.history(self.copy, "polars").columns)

    def test_runs_go_to_weights_and_biases(self) -> None:
        home = Path(self.folder.name)
        kept, runs = home / "offline", home / "mlruns"
        kept.mkdir()
        gro.run("evaluate report", runs=[self.evaluated], histories=[self.copy], mlflow=runs, out=home / "shown", progress=False)
        # The helper that writes its logs has written all of them when it ends; and it would learn of the end from unittest's exit code,
        # which it does not take for a number.
        try:
            with unittest.mock.patch.dict(os.environ, WANDB_ERROR_REPORTING="false", WANDB_SILENT="true"):
                names = gro.to_wandb(runs, "gro", mode="offline", folder=kept)
        finally:
            wandb.teardown()
        self.assertEqual(sorted(names), ["copy", "eval", "report"])
        # A log of wandb's own that it uploads later.
        logs = [path.read_bytes() for path in kept.rglob("run-*.wandb")]
        self.assertEqual(len(logs), 3)
        for said in ("surrogate/HR_at_10", "lists of 20: hinge", "ndcg_at_10"):
            self.assertTrue(any(said.encode() in log for log in logs), said)
        self.assertTrue(list(kept.rglob("files/report.html")))
        with self.assertRaisesRegex(FileNotFoundError, "holds no runs"):
            gro.to_wandb(kept / "nothing", "gro", mode="offline")

    def test_progress_is_told(self) -> None:
        self.assertTrue(self.seen)
        positions = [progress.position for progress in self.seen]
        self.assertEqual(positions, sorted(positions))
        self.assertTrue(all(0 <= progress.position <= progress.total for progress in self.seen))

    def test_a_query_log_is_sequences_or_questions(self) -> None:
        queries, questions = gro.queries(self.log), gro.questions(self.log)
        self.assertEqual(len(queries), 12)
        self.assertEqual(len(questions), gro.header(self.log)["queries"])
        third = questions[questions["sequence"] == 3]
        self.assertEqual(list(third["item"]), list(queries["sequence"][3]))
        self.assertEqual(list(third["place"]), list(range(1, len(third) + 1)))
        self.assertEqual(list(third["answers"].iloc[1]), list(queries["answers"][3][1]))
        self.assertEqual(len(third["answers"].iloc[0]), 20)
        self.assertEqual(gro.questions(self.log, "polars").height, len(questions))

    def test_a_question_is_answered(self) -> None:
        history = " ".join(map(str, gro.Dataset(self.data).items()["raw_id"][:3]))
        answered = gro.run("serve once", target=self.protected, data=self.data, history=history, k=5, json=True, progress=False)
        items = json.loads(answered.output)["items"]
        self.assertEqual(len({item["id"] for item in items}), 5)

    def test_an_evaluation_is_figures_and_ranks(self) -> None:
        ranks = gro.ranks(self.evaluated)
        self.assertEqual(len(ranks), len(gro.Dataset(self.data)))
        placed = ranks["target_rank"].dropna()
        self.assertTrue((placed >= 1).all() and pd.api.types.is_integer_dtype(placed))
        metrics = gro.metrics(self.evaluated)
        found = metrics[(metrics["of"] == "target") & (metrics["figure"] == "HR@10")].iloc[0]
        self.assertAlmostEqual(found["mean"], (ranks["target_rank"] <= 10).fillna(False).mean())
        self.assertTrue({"popular", "surrogate", "fidelity.own", "fidelity.answered"} <= set(metrics["of"]))
        report = gro.report(self.reported)
        self.assertEqual(set(report["model"]), {"popular", "target", "surrogate"})
        self.assertIn("HR@10", self.reported.output)
        cell = report[(report["model"] == "target") & (report["figure"] == "HR@10")].iloc[0]
        self.assertAlmostEqual(cell["mean"], found["mean"])

    def test_a_checkpoint_and_a_log_say_what_they_are(self) -> None:
        self.assertEqual(gro.header(self.target)["architecture"], "bert")
        self.assertEqual(gro.header(Path(self.protected) / "model.safetensors")["defence"]["name"], "none")

    def test_what_is_up_to_date_is_left(self) -> None:
        again = gro.run("evaluate report", runs=[self.evaluated], out=Path(self.reported), progress=False)
        self.assertTrue(any("up to date" in message for message in again.messages), again.messages)

    def test_an_interruption_saves_the_state(self) -> None:
        out = Path(self.folder.name) / "interrupted"

        def stop(progress: gro.Progress) -> None:
            raise KeyboardInterrupt

        settings = {**SMALL, "train.epochs": 100_000, "train.patience": 100_000}
        with self.assertRaises(KeyboardInterrupt):
            gro.run("train", config=["demo", "bert"], set=settings, data=self.data, out=out, progress=stop)
        self.assertFalse(out.exists())
        self.assertTrue(out.with_name("interrupted.state").is_dir())


class Calls(unittest.TestCase):
    """Calls that need no experiment."""

    def test_the_binaries_are_on_the_path(self) -> None:
        scripts = sysconfig.get_path("scripts")
        for name in BINARIES:
            printed = subprocess.run([name, "--version"], env={"PATH": scripts}, capture_output=True, text=True, check=True)
            self.assertRegex(printed.stdout, rf"^{name} [0-9.]+ \(commit ")
        share = Path(sysconfig.get_path("data")) / "share"
        self.assertTrue((share / "man/man1/gro-train.1").is_file())
        self.assertIn("Permission is hereby granted", (share / "doc/gro/LICENCES").read_text(encoding="utf-8"))

    def test_a_refusal_has_its_message(self) -> None:
        with self.assertRaises(gro.Refused) as caught:
            gro.run("train", data="nowhere", out="t", progress=False)
        self.assertEqual(caught.exception.code, 2)
        self.assertTrue(str(caught.exception).startswith("nowhere/items.parquet does not exist"), caught.exception)
        with self.assertRaisesRegex(gro.Refused, "train.epochs"):
            gro.run("train", data="nowhere", out="t", set={"train.epochs": 0}, progress=False)
        with self.assertRaisesRegex(gro.Refused, "unexpected argument '--bogus'"):
            gro.run("train", bogus=1, progress=False)
        with self.assertRaisesRegex(ValueError, "gro-fly"):
            gro.run("fly")

    def test_settings_come_with_the_package(self) -> None:
        self.assertTrue({"bert", "sas", "ml-100k", "theft"} <= set(gro.settings()))
        shown = gro.run("settings", config=["ml-100k", "bert"], set=["train.epochs=7"], get="train.epochs", progress=False)
        self.assertEqual(shown.output, "7\n")
        with self.assertRaisesRegex(ValueError, "bertt"):
            gro.run("settings", config="bertt")
        self.assertIn("sas", gro.names("architectures"))

    def test_what_is_missing_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(FileNotFoundError, "has no history.csv, which `gro-train`"):
                gro.history(folder)
            with self.assertRaisesRegex(FileNotFoundError, "neither queries.parquet nor model.safetensors"):
                gro.header(folder)

    def test_warnings_are_pythons(self) -> None:
        with warnings.catch_warnings(record=True) as caught, tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("always")
            ratings = Path(folder) / "ratings.csv"
            rows = [f"{user},{item},{item}" for user in range(30) for item in range(user % 5, 20)]
            ratings.write_text("user,item,timestamp\n" + "\n".join([*rows, " u , 3,7", " u , 4,8", " u , 5,9"]) + "\n", encoding="utf-8")
            columns = {"preprocess.columns": {"user": "user", "item": "item", "timestamp": "timestamp", "rating": None}}
            gro.run("preprocess run", input=ratings, out=Path(folder) / "data", set={**columns, "preprocess.min_rating": None}, progress=False)
        self.assertTrue(any("blanks" in str(warning.message) for warning in caught), [str(w.message) for w in caught])


if __name__ == "__main__":
    unittest.main()
