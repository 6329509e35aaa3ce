"""The process that copies a run's record to Weights & Biases, while the run goes or afterwards.

Run as ``python -m semfacediff.records.mirroring FOLDER OPTIONS``. What it sends is made from the files of the record
(:mod:`semfacediff.records.mirrored`); docs/tracking.md lists it.

A record always has the same W&B id, except that an agent of a sweep gives its own. ``wandb/sent.json`` beside it says
what was sent where, and so what is new. W&B cannot continue offline runs: each offline copy is whole, so that the
newest is complete and older ones may be deleted.
"""

import hashlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import yaml

from semfacediff.config import WandbTracking
from semfacediff.records.folder import DONE
from semfacediff.records.mirrored import STEPS, Curves, figures, send_end
from semfacediff.records.wandb_login import OFFLINE, ONLINE, agent_run, destination, mode
from semfacediff.records.writing import write_text

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

LOOK_S = 5.0
"""How long the mirror waits for news before it looks by itself."""
GIVE_UP_S = 600.0
"""How long it goes on after the run has ended, e.g. with an upload."""
INIT_TIMEOUT_S = 240.0
"""How long W&B may take to answer at all; the run does not wait for it."""
NOTHING_LOST = "the run's own record does not depend on it"
SENT, CONSOLE = Path("wandb") / "sent.json", Path("wandb") / "console.log"


def mirror(
    folder: Path, options: WandbTracking, news: Iterable[object] = (), say: Callable[[str], object] = print
) -> None:
    """Send the record in ``folder`` to W&B: its curves at each of ``news``, everything when there are no more.

    Args:
        say: told in a sentence where the copy goes elsewhere than asked.
    """
    facts = json.loads((folder / "run.json").read_text())
    run, chosen = _begun(folder, options, facts, say)
    curves, printed = Curves(run, folder, int(facts.get("n_expected") or 0)), 0
    for _ in news:
        curves.send()
        printed = _repeat_console(folder, printed)
    curves.send(at_the_end=True)
    _repeat_console(folder, printed)
    status = json.loads((folder / "run.json").read_text())["status"]
    state = _state(folder, options)
    send_end(run, folder, options.images, f"record-{wandb_id(facts)}" if options.artifact else None)
    run.finish(exit_code=0 if status == DONE else 1)
    _remember(folder, _target(options, chosen), state)


def _begun(folder: Path, options: WandbTracking, facts: dict, say: Callable[[str], object]) -> tuple["Run", str]:
    """The W&B run and its mode; offline where W&B was to be found by ``auto`` and refuses."""
    import wandb

    chosen = mode(options.mode)
    try:
        return _init(folder, options, facts, chosen), chosen
    except Exception as e:
        if options.mode != "auto" or chosen != ONLINE:
            raise
        say(
            f"W&B refused ({_reason(e)}); the copy stays offline in {folder / 'wandb'}, send it later with: "
            f"semfacediff track sync --mode online {folder}"
        )
        wandb.teardown()  # else the id is still in use
        return _init(folder, options, facts, OFFLINE), OFFLINE


def _init(folder: Path, options: WandbTracking, facts: dict, chosen: str) -> "Run":
    import wandb

    return wandb.init(
        id=wandb_id(facts),
        resume=None if chosen == OFFLINE else "allow",
        project=None if agent_run() else options.project,  # an agent's are its sweep's
        entity=None if agent_run() else options.entity,
        group=options.group,
        tags=options.tags,
        name=facts["run_id"],
        job_type=facts["task"],
        mode=cast(Literal["online", "offline", "disabled", "shared"], chosen),  # W&B refuses what is none
        dir=str(folder),
        config=_configuration(folder, facts),
        settings=wandb.Settings(**_settings(options)),
    )


def _settings(options: WandbTracking) -> dict:
    """Host name, paths and hardware stay here unless asked for, and so do code, packages and crash reports."""
    return {
        "silent": True,
        "console": "wrap" if options.console else "off",
        "symlink": False,
        "init_timeout": INIT_TIMEOUT_S,
        "disable_code": True,
        "disable_git": not options.git,
        "disable_job_creation": True,
        "x_disable_machine_info": not (options.system or options.git),  # of which git's facts are a part
        "x_disable_meta": not (options.system or options.git),
        "x_disable_stats": not options.system,
        "x_stats_pid": os.getppid(),  # the run, not its mirror
        "x_save_requirements": False,
    }


def _repeat_console(folder: Path, start: int) -> int:
    """Print what the run has printed since character ``start``, for W&B to capture; returns where it ends now."""
    file = folder / CONSOLE
    text = file.read_text(errors="replace") if file.exists() else ""
    print(text[start:], end="", flush=True)
    return len(text)


def wandb_id(facts: Mapping) -> str:
    """The W&B id of a run: that of a sweep's agent, else from its ``run.json``: 16 hex digits."""
    told = [facts.get(key) for key in ("run_id", "config_digest", "started")]
    return agent_run() or hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def is_new(folder: Path, options: WandbTracking) -> bool:
    """Whether the record holds something that was not yet sent to where ``options`` say."""
    return _sent(folder).get(_target(options, mode(options.mode))) != _state(folder, options)


def _target(options: WandbTracking, chosen: str) -> str:
    place = destination(options.entity or "", options.project)
    return "/".join([chosen, place if "/" in place else f"/{place}", *filter(None, [agent_run()])])


def _state(folder: Path, options: WandbTracking) -> str:
    """Digest of everything that would be sent."""
    files = ["config.yaml", "history.csv", "samples.jsonl", "summary.csv"]
    files += [STEPS] if (folder / STEPS).exists() else []
    files += [str(png.relative_to(folder)) for png in figures(folder)] if options.images else []
    told = [options.group, options.tags, *(["artifact"] if options.artifact else [])]
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update(json.loads((folder / "run.json").read_text())["status"].encode())
    for name in files:
        data = (folder / name).read_bytes() if (folder / name).exists() else b""
        digest.update(f"{name}:{len(data)}:".encode() + data)
    return digest.hexdigest()


def _sent(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / SENT).read_text())
    except (OSError, ValueError):
        return {}  # sent again, under the same id
    return found if isinstance(found, dict) else {}


def _remember(folder: Path, target: str, state: str) -> None:
    if not target.startswith("disabled/"):
        write_text(folder / SENT, json.dumps(_sent(folder) | {target: state}, indent=1) + "\n")


def _configuration(folder: Path, facts: dict) -> dict:
    """The resolved configuration, and what tells this record from others."""
    record = {k: facts.get(k) for k in ("run_id", "config_digest", "code", "packages", "not_comparable")}
    return {**yaml.safe_load((folder / "config.yaml").read_text()), "record": record}


def _arriving() -> Iterator[str]:
    """Lines of stdin, and an empty one whenever none came for a while.

    A thread reads them, so that the end of the run is noticed even while W&B hangs.
    """
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)
        last_resort = threading.Timer(GIVE_UP_S, os._exit, (1,))
        last_resort.daemon = True
        last_resort.start()

    def waited_for() -> str | None:
        try:
            return lines.get(timeout=LOOK_S)
        except queue.Empty:
            return ""

    threading.Thread(target=read, daemon=True).start()
    return iter(waited_for, None)


def _reason(e: BaseException) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())[:200] or 'no reason given'}"


def _main(folder: str, options: str) -> None:
    told = os.dup(sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whatever W&B prints is no sentence of ours
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # with which W&B would stop this process instead of the run

    def say(text: str) -> None:
        os.write(told, f"{text}\n".encode())

    try:
        mirror(Path(folder), WandbTracking(**json.loads(options)), _arriving(), say)
    except BaseException as e:  # SystemExit too; nothing of W&B may reach the run
        say(f"W&B failed ({_reason(e)}); {NOTHING_LOST}")
        os._exit(1)  # no second complaint from what it registered for the exit


if __name__ == "__main__":
    _main(*sys.argv[1:])
