"""Mirrors a run's record to Weights & Biases (``tracking=wandb``) without the run noticing.

The record in the run's folder is the truth. The mirror reads it, after it was written, in a process of its own: W&B may
be absent, refuse, raise or hang, and the run still writes the same files at the same speed; it says one sentence about
it on stderr. Each sitting of a run is one W&B run with the whole history so far (W&B cannot continue offline runs), so
that after an interruption the newest is complete and older ones may be deleted.
"""

import contextlib
import csv
import json
import math
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from semfacediff.records.folder import DONE, RunFolder

WAIT_S = 10.0
"""How long a run that is over waits for its mirror."""
GIVE_UP_S = 600.0
"""How long the mirror goes on by itself after that, e.g. with an upload."""
INIT_TIMEOUT_S = 30.0
MAX_FIGURES = 12
_NOTHING_LOST = "the run's own record does not depend on it"
# Its crash reports would be a network call that nobody asked for; host name, paths and hardware stay here too.
_QUIET = {"WANDB_ERROR_REPORTING": "false"}
_SETTINGS = {
    "silent": True,
    "console": "off",
    "symlink": False,
    "init_timeout": INIT_TIMEOUT_S,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


@contextlib.contextmanager
def tracked(record: RunFolder, options: Mapping[str, object], name: str) -> Iterator[Callable[[], None]]:
    """Mirror ``record`` while the block lasts, as the ``tracking`` options say; results are sent when it is left.

    Args:
        record: opened; a finished one is not mirrored again.
        options: the ``tracking`` group of the configuration.
        name: W&B group where the options name none.

    Yields:
        To be called when the record has grown; returns at once and never raises.
    """
    first_process = os.environ.get("RANK", "0") == "0"
    if options["name"] == "none" or record.finished or not first_process:
        yield lambda: None
        return
    mirror = _Mirror(record.path, {**options, "group": options["group"] or name})
    try:
        yield mirror.notify
    finally:
        mirror.close()


class _Mirror:
    """The process that mirrors ``folder``. A line on its stdin is news, the end of its stdin the end of the run."""

    def __init__(self, folder: Path, options: Mapping[str, object]):
        self._process, self._complained = None, False
        # -P: the mirror must find wandb, not a folder of that name where the command was typed.
        command = [sys.executable, "-P", "-m", "semfacediff.records.tracking", str(folder), json.dumps(options)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C ends the run; the mirror then sends what there is
                env={**_QUIET, **os.environ},
            )
            os.set_blocking(self._process.stdin.fileno(), False)
            os.set_blocking(self._process.stdout.fileno(), False)
        except OSError as e:
            _say(f"no process for W&B ({e}); {_NOTHING_LOST}")

    def notify(self) -> None:
        """Tell the mirror that the record has grown."""
        if self._process is not None:
            with contextlib.suppress(OSError):  # gone, or so far behind that its pipe is full
                os.write(self._process.stdin.fileno(), b"\n")
            self._relay()

    def close(self) -> None:
        """Wait a little for the mirror's end, and leave it to itself if that is not enough."""
        if self._process is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            _say(f"W&B is still busy after {WAIT_S:g} s and goes on in the background; {_NOTHING_LOST}")
        self._relay()
        if self._process.returncode and not self._complained:
            _say(f"W&B ended with code {self._process.returncode}; {_NOTHING_LOST}")
        self._process.stdout.close()

    def _relay(self) -> None:
        """Print what the mirror complains about: one sentence, for it ends with it."""
        with contextlib.suppress(OSError):
            if text := os.read(self._process.stdout.fileno(), 4096):
                self._complained = True
                _say(text.decode(errors="replace"))


def _say(text: str) -> None:
    print(f"tracking: {text}", file=sys.stderr)


def mirror(folder: Path, options: Mapping[str, object], news: Iterable[object] = ()) -> None:
    """Send the record in ``folder`` to W&B: history rows at each of ``news``, everything when there are no more.

    Args:
        options: ``project``, ``entity``, ``mode``, ``group``, ``tags``, ``images``, as in ``conf/tracking/wandb.yaml``.
    """
    import wandb

    facts = json.loads((folder / "run.json").read_text())
    run = wandb.init(
        project=options["project"],
        entity=options["entity"],
        group=options["group"],
        tags=list(options["tags"]),
        name=facts["run_id"],
        job_type=facts["task"],
        mode=mode(str(options["mode"])),
        dir=str(folder),
        config=_configuration(folder, facts),
        settings=wandb.Settings(**_SETTINGS),
    )
    sent = 0
    for _ in news:
        sent = _send_history(run, folder / "history.csv", sent)
    _send_history(run, folder / "history.csv", sent)
    status = json.loads((folder / "run.json").read_text())["status"]
    if (folder / "summary.csv").exists():
        _send_summary(wandb, run, folder / "summary.csv")
    if options["images"]:
        figures = sorted((folder / "figures").glob("*.png"))[:MAX_FIGURES]
        run.log({f"figures/{png.stem}": wandb.Image(str(png)) for png in figures})
    run.finish(exit_code=0 if status == DONE else 1)


def mode(asked: str) -> str:
    """``asked``, where ``auto`` means ``WANDB_MODE`` if it is set, else online with ``WANDB_API_KEY``, else offline."""
    if asked != "auto":
        return asked
    return os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")


def _configuration(folder: Path, facts: dict) -> dict:
    """The resolved configuration, and what tells this record from others."""
    record = {k: facts.get(k) for k in ("run_id", "config_digest", "code", "packages", "not_comparable")}
    return {**yaml.safe_load((folder / "config.yaml").read_text()), "record": record}


def _send_history(run, file: Path, sent: int) -> int:
    """Log the rows after the first ``sent``, each at its epoch; returns how many are sent now."""
    rows = list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []
    for row in rows[sent:]:
        values = {k: number for k, text in row.items() if (number := _number(text)) is not None}
        run.log(values, step=int(values["epoch"]))
    return len(rows)


def _send_summary(wandb, run, file: Path) -> None:
    """``summary.csv`` as a table, and its numbers as ``<row>/<column>``, e.g. ``hair/lpips_mean``."""
    columns, *rows = csv.reader(file.read_text().splitlines())
    values = [[row[0], *(_number(text) for text in row[1:])] for row in rows]
    run.log({"summary": wandb.Table(columns=columns, data=values)})
    scalars = {f"{row[0]}/{c}": v for row in values for c, v in zip(columns[1:], row[1:], strict=True)}
    run.summary.update({name: v for name, v in scalars.items() if v is not None})


def _number(text: str) -> float | None:
    """A cell as a finite number; ``None`` for an empty one and for words."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _arriving() -> Iterator[str]:
    """Lines of stdin. A thread reads them, so that the end of the run is noticed even while W&B hangs."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)
        last_resort = threading.Timer(GIVE_UP_S, os._exit, (1,))
        last_resort.daemon = True
        last_resort.start()

    threading.Thread(target=read, daemon=True).start()
    return iter(lines.get, None)


def _main(folder: str, options: str) -> None:
    complaints = os.dup(sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whatever W&B prints is no complaint of ours
    try:
        mirror(Path(folder), json.loads(options), _arriving())
    except BaseException as e:  # SystemExit too; nothing of W&B may reach the run
        reason = " ".join(str(e).split())[:200] or "no reason given"
        os.write(complaints, f"W&B failed ({type(e).__name__}: {reason}); {_NOTHING_LOST}".encode())
        os._exit(1)  # no second complaint from what it registered for the exit


if __name__ == "__main__":
    _main(*sys.argv[1:])
