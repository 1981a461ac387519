"""Runs the stages: their command lines from Python's values, their log and progress while they work, their errors as exceptions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Union

StrPath = Union[str, "os.PathLike[str]"]
"""A path as text or as an object with one, such as :class:`pathlib.Path` or what :func:`run` returns."""

ASKED = {"list", "settings", "check", "verify"}
"""Commands of the binary ``gro``, which knows all stages and makes nothing."""


class Failed(RuntimeError):
    """A stage failed. ``code`` is its exit code, the text is its message."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Refused(Failed):
    """Usage, settings or input are to blame; nothing was done (exit code 2)."""


@dataclass(frozen=True)
class Progress:
    """How far a stage is."""

    position: int
    """Steps that were done."""
    total: int
    """Steps that there are; 0 where that is not known."""
    message: str
    """What is being done, such as the last epoch and its losses."""


@dataclass(frozen=True)
class Outcome:
    """What a stage did. It can be given wherever a path is expected, and then is its directory."""

    out: Path | None
    """The directory (or file) that was asked for by ``out``."""
    output: str
    """What it printed: tables, names."""
    messages: tuple[str, ...]
    """What it said while it worked."""

    def __fspath__(self) -> str:
        if self.out is None:
            raise TypeError("this command was given no `out`, so there is no path of what it wrote")
        return str(self.out)


def run(
    stage: str,
    *,
    config: StrPath | Iterable[StrPath] = (),
    set: Mapping[str, object] | Iterable[str] = (),
    progress: bool | Callable[[Progress], None] = True,
    **flags: object,
) -> Outcome:
    """Run a stage, wait for it, and show its progress.

    An output that is up to date is left as it is, as on the command line. Interrupting (Ctrl-C, or a notebook's stop button) asks the
    stage to stop, which first saves its state for ``resume=True``.

    Args:
        stage: What would stand on the command line after ``gro-``: ``"train"``, ``"attack generate"``, ``"evaluate report"``; or a
            command of ``gro`` itself: ``"check"``, ``"verify"``.
        config: Layers of settings, later ones win: paths, or names of settings that come with the package, such as ``"ml-100k"`` and
            ``"bert"`` (see :func:`settings`).
        set: Single settings over these: ``{"train.epochs": 20}``, or texts such as ``"train.epochs=20"``.
        progress: Whether the log and the progress are shown; or a function that is told the progress, and then nothing is shown.
            Warnings are Python's either way.
        flags: The stage's other flags, ``_`` for ``-``: ``data="data"``, ``out="target"``, ``resume=True``, ``save_every=60``. What is
            ``None`` or ``False`` is left out, of a list or tuple every element is given.

    Returns:
        What was done; it stands for its directory where a path is expected.

    Raises:
        Refused: Usage, settings or input are to blame. The text says what to do.
        Failed: The stage failed for another reason.
    """
    words = stage.split()
    if not words:
        raise ValueError("expected the name of a stage, such as 'train' or 'attack generate'")
    program = "gro" if words[0] in ASKED else f"gro-{words.pop(0)}"
    command = [_found(program), *words]
    layers = [config] if isinstance(config, (str, os.PathLike)) else list(config)
    command += [f"--config={_layer(layer)}" for layer in layers]
    command += [f"--set={setting}" for setting in _settings(set)]
    for name, value in flags.items():
        command += _flag(name, value)
    # What answers for a target has no progress, and what lists names no log.
    if program != "gro-serve" and words[:1] != ["list"]:
        command += ["--json-log", "--json-progress"]
    display = _Display() if progress is True else None
    tell = progress if callable(progress) else None
    output, messages = _follow(command, display, tell)
    out = flags.get("out")
    return Outcome(Path(os.fspath(out)) if isinstance(out, (str, os.PathLike)) else None, output, tuple(messages))


def names(kind: str) -> list[str]:
    """The names that there are of a kind: ``"architectures"``, ``"defences"``, ``"strategies"``, ``"metrics"``, …"""
    command = [_found("gro"), "list", kind]
    output, _ = _follow(command, None, None)
    return output.split()


def settings() -> dict[str, Path]:
    """The files of settings that come with the package, by the names under which ``config`` takes them: of data sets, and of
    architectures."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "settings").glob("*.yaml"))}


def _found(program: str) -> str:
    """The binary beside this Python, or else that on the PATH."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    found = shutil.which(program, path=path)
    if found is None:
        raise ValueError(f"there is no program {program}; the stages are preprocess, train, defend, attack and evaluate")
    return found


def _layer(layer: StrPath) -> str:
    text = os.fspath(layer)
    is_name = isinstance(layer, str) and Path(text).suffix == "" and Path(text).name == text
    if not is_name:
        return text
    there = settings()
    if text not in there:
        raise ValueError(
            f"no settings of the name {text!r} come with the package; expected a path that ends in .yaml, or one of {', '.join(there)}"
        )
    return str(there[text])


def _settings(given: Mapping[str, object] | Iterable[str]) -> list[str]:
    if isinstance(given, str):
        return [given]
    if isinstance(given, Mapping):
        # JSON is YAML.
        return [f"{key}={json.dumps(value)}" for key, value in given.items()]
    return list(given)


def _flag(name: str, value: object) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    if isinstance(value, (list, tuple)):
        return [word for element in value for word in _flag(name, element)]
    return [f"{flag}={os.fspath(value) if isinstance(value, os.PathLike) else value}"]


def _follow(
    command: Sequence[str], display: _Display | None, tell: Callable[[Progress], None] | None
) -> tuple[str, list[str]]:
    """Run a command and hear it to its end: its stdout, and the messages of its log."""
    # In a session of its own, so that a signal reaches it once, from here.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    printed: list[str] = []
    # Read beside the log: whoever fills one pipe while the other is read waits forever.
    reader = threading.Thread(target=_read, args=(process.stdout, printed), daemon=True)
    reader.start()
    messages: list[str] = []
    errors: list[str] = []
    try:
        for line in process.stderr:
            level, message, progress = _understood(line)
            if progress is not None:
                if display is not None:
                    display.progress(progress)
                if tell is not None:
                    tell(progress)
            elif level == "ERROR" or level is None:
                errors.append(message)
            else:
                messages.append(message)
                if level == "WARN":
                    warnings.warn(message, RuntimeWarning, stacklevel=4)
                elif display is not None:
                    display.message(message)
        code = process.wait()
    except BaseException:
        # The stage saves its state, which may take it a moment. Asked twice, it stops at once.
        process.send_signal(signal.SIGINT)
        try:
            for _ in process.stderr:
                pass
            process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()
            raise
        raise
    finally:
        if display is not None:
            display.end()
        reader.join(timeout=1)
        process.stderr.close()
        process.stdout.close()
    if code != 0:
        text = "\n".join(errors).strip().removeprefix("error: ")
        raise (Refused if code == 2 else Failed)(text or f"{command[0]} ended with code {code}", code)
    return "".join(printed), messages


def _read(stream: IO[str], into: list[str]) -> None:
    into.extend(stream)


def _understood(line: str) -> tuple[str | None, str, Progress | None]:
    """Level and message of a line, or the progress it tells. What is no line of the log, as usage on the command line, has no level."""
    try:
        event: Any = json.loads(line)
        level, message = str(event["level"]), str(event["message"])
    except (ValueError, TypeError, KeyError):
        return None, line.rstrip("\n"), None
    if "position" in event and "total" in event:
        return level, message, Progress(int(event["position"]), int(event["total"]), message)
    return level, message, None


class _Display:
    """The log on stderr, and under it, where somebody is watching, a line of progress that is written over."""

    def __init__(self) -> None:
        self.stream = sys.stderr
        self.width = 0
        self.watched = self.stream.isatty() or "ipykernel" in sys.modules

    def message(self, text: str) -> None:
        self._clear()
        print(text, file=self.stream, flush=True)

    def progress(self, progress: Progress) -> None:
        if not self.watched:
            return
        share = f"{progress.position}/{progress.total}" if progress.total else f"{progress.position}"
        text = f"{progress.message} {share}"[: shutil.get_terminal_size().columns - 1]
        self._clear()
        print(text, end="", file=self.stream, flush=True)
        self.width = len(text)

    def end(self) -> None:
        self._clear()

    def _clear(self) -> None:
        if self.width:
            print("\r" + " " * self.width + "\r", end="", file=self.stream, flush=True)
            self.width = 0
