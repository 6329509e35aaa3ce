"""Runs a task under Hydra the way a user expects: one sentence and exit code 2 for a mistake, no traceback.

Nothing heavy is imported here, so that ``--help`` and ``--cfg job`` answer at once.
"""

import contextlib
import hashlib
import io
import json
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, get_args

import hydra
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from semfacediff import __version__, plugins, script_help
from semfacediff.errors import EXIT_MISTAKE, UserError
from semfacediff.hydra_mistakes import explained
from semfacediff.places import results
from semfacediff.threads import announce


def _folder_digest(*, _root_: DictConfig) -> str:
    """First 8 hex digits over what the job's configuration says of the results; names the run's default folder."""
    from semfacediff import config
    from semfacediff.tasks.folder_digest import folder_digest

    own = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    try:
        return folder_digest(config.typed(own, *get_args(config.AnyTask)))
    except UserError:  # the job will say so; until then its folder needs a name
        plain = OmegaConf.to_container(own)
        return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:8]


_READABLE = "SEMFACEDIFF_"


def _environment(name: str, default: object = "") -> str | None:
    """``oc.env`` for the variables of this program alone: records are published, and hold what was resolved."""
    if not name.startswith(_READABLE):
        raise UserError(
            f"${{oc.env:{name}}}: expected a variable called {_READABLE}..., because records keep the value; write the "
            f"value itself, or export it as {_READABLE}{name}"
        )
    if default == "" and name not in os.environ:
        raise UserError(f"${{oc.env:{name}}}: the variable is not set; export it, or write ${{oc.env:{name},DEFAULT}}")
    return os.environ.get(name, None if default is None else str(default))


# At import, because a launcher's processes import this module and do not call run().
OmegaConf.register_new_resolver("folder_digest", _folder_digest, replace=True)
OmegaConf.register_new_resolver("oc.env", _environment, replace=True)


def _prepare(root: Path) -> None:
    """Tell the configuration where presets and results lie; a user's own are in the current folder."""
    for name in ("conf", "experiments"):
        own = Path(name)
        os.environ[f"SEMFACEDIFF_OWN_{name.upper()}"] = str((own if own.is_dir() else root / name).resolve())
    os.environ["SEMFACEDIFF_EXPERIMENTS"] = str(root / "experiments")
    os.environ["SEMFACEDIFF_RESULTS"] = str(results(root))
    for group in ("editor", "parser", "data"):
        for entry in plugins.installed(group):  # a choice of the group, without importing it
            choice = {"defaults": ["python", "_self_"], "name": entry.name, "target": None}
            ConfigStore.instance().store(entry.name, choice, group=group)


exit_codes = [0]
"""Of the jobs that this process ran or waited for."""
_held = contextlib.ExitStack()
"""Keeps the sweep's folder for this process; not in the callback, which launchers send to other processes."""


class SweepLedger(Callback):
    """Holds a sweep's folder while its jobs run, in the process that was started; named in ``conf``."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        from semfacediff.records.folder import held

        try:
            _use_launcher(config.hydra.launcher._target_)
            _held.enter_context(held(Path(config.hydra.sweep.dir), "set hydra.sweep.dir=DIR"))
        except UserError as e:
            _complain(e)
            sys.exit(EXIT_MISTAKE)  # Hydra would turn any other exception into a warning

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        _held.close()
        _show_cells(Path(config.hydra.sweep.dir))


def _show_cells(sweep: Path) -> None:
    """The table of all finished cells of a sweep, which none of them could make alone."""
    from semfacediff.records.ledger import finished_runs
    from semfacediff.tables.formats import rendered
    from semfacediff.tables.own import own_grid

    try:
        if finished_runs(sweep):
            print(f"\n{rendered(own_grid([sweep]), 'md')}\nsemfacediff tables {sweep} --format tex", flush=True)
    except UserError as e:
        print(f"\nno table of all cells: {e}", file=sys.stderr)


def _use_launcher(target: str) -> None:
    """Have the jobs of submitit reported by ours; ``target`` is the launcher's class."""
    if not target.startswith("hydra_plugins.hydra_submitit_launcher."):
        return
    if target.endswith(".SlurmLauncher") and shutil.which("sbatch") is None:
        raise UserError(
            "hydra/launcher=submitit_slurm submits jobs with Slurm's sbatch, which is not on the PATH of this machine; "
            "run the command on a login node of the cluster, or set hydra/launcher=submitit_local"
        )
    from semfacediff import launching

    launching.install()


def composed(config_name: str, overrides: list[str], root: Path) -> DictConfig:
    """The configuration that ``<config_name>.py <overrides>`` would run with, without running it."""
    _prepare(root)
    with hydra.initialize_config_dir(str(root / "conf"), version_base="1.3"):
        return hydra.compose(config_name, overrides)


def composed_or_refused(config_name: str, overrides: list[str], root: Path) -> DictConfig:
    """:func:`composed`; an override that Hydra cannot apply is a :class:`UserError` in one sentence."""
    try:
        return composed(config_name, overrides, root)
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as e:
        raise UserError(explained(e, overrides, root, lambda words: composed(config_name, words, root))) from e


def run(config_name: str, task: Callable[[DictConfig, Path], int], root: Path) -> None:
    """Compose ``root/conf/<config_name>.yaml``, call ``task(cfg, run_folder)`` and leave with its exit code.

    In a multirun (``-m``) every job runs even if another fails, and the sweep does not end with 0 then. Jobs may run in
    other processes (joblib, Slurm), so a failure travels as an exception, which Hydra hands back.
    """
    entered = []

    def job(cfg: DictConfig) -> float | None:
        entered.append(True)
        return _run_job(task, cfg)

    exit_codes[:] = [0]
    _prepare(root)
    _announce_threads(sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us instead of Hydra's own traceback
    try:
        if {"--help", "-h"} & set(sys.argv[1:]):
            print(script_help.text(config_name, sys.argv[0], root), flush=True)
        elif "--version" in sys.argv[1:]:
            print(f"semfacediff {__version__}")
        else:
            with _hearing_signals():
                hydra.main(version_base="1.3", config_path=str(root / "conf"), config_name=config_name)(job)()
    except UserError as e:
        _complain(e)
        sys.exit(EXIT_MISTAKE)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as e:
        if entered and not isinstance(e, HydraException | OmegaConfBaseException):
            raise  # a fault of ours in the job
        _complain(explained(e, sys.argv[1:], root, lambda words: composed(config_name, words, root)))
        sys.exit(EXIT_MISTAKE)
    except JobFailed as e:
        sys.exit(max(*exit_codes, *e.args))
    except KeyboardInterrupt as e:
        leave_stopped(e, "the same command begins again")
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as e:
        if entered and e.filename is not None:
            raise
        # Hydra makes the run folder before our code runs; a full disk behind stdout has no name.
        where = f"the run folder {e.filename} cannot be made" if e.filename else "the output cannot be written"
        _complain(f"{where} ({e.strerror}); set hydra.run.dir=DIR to a writable place")
        sys.exit(EXIT_MISTAKE)
    sys.exit(max(exit_codes))


def _run_job(task: Callable[[DictConfig, Path], int], cfg: DictConfig) -> float | None:
    """One job: the only one, or one of a sweep, which the sweep's ledger notes. Returns what ``optimise`` names."""
    hydra_cfg = HydraConfig.get()
    own = _own_overrides(hydra_cfg)
    os.environ["SEMFACEDIFF_OVERRIDES"] = shlex.join(own)  # read by the record
    folder = Path(hydra_cfg.runtime.output_dir)
    if hydra_cfg.mode != RunMode.MULTIRUN:
        exit_codes.append(_exit_code(task, cfg, folder)[0])
        return None
    os.environ["SEMFACEDIFF_SWEEP"] = Path(hydra_cfg.sweep.dir).name  # read by conf/tracking
    from semfacediff.records.ledger import STATUS, noted

    begun, report = time.monotonic(), io.StringIO()
    with noted(folder.parent, folder.name, own) as codes, contextlib.redirect_stdout(report):
        code, value = _exit_code(task, cfg, folder)
        codes.append(code)
    exit_codes.append(code)
    typed = {word.lower() for word in sys.argv}  # Hydra writes true as True
    varied = " ".join(word for word in own if word.lower() not in typed) or folder.name
    print(f"{varied}: {STATUS[code]}, {time.monotonic() - begun:.0f} s: {folder}", flush=True)
    if code:
        raise JobFailed(code)
    return value


def _announce_threads(words: list[str]) -> None:
    """To libraries that load before the configuration is read; jobs of a launcher may run in other places than here."""
    if not any(word.startswith("hydra/launcher=") and word != "hydra/launcher=basic" for word in words):
        asked = [w.partition("=")[2] for w in words if w.startswith("runtime.threads=")]
        announce(int(asked[-1]) if asked and asked[-1].isdecimal() and int(asked[-1]) else None)


def _exit_code(task: Callable[[DictConfig, Path], int], cfg: DictConfig, folder: Path) -> tuple[int, float | None]:
    """What one job ends with, and the number that it optimises; a mistake is said on stderr."""
    try:
        with _hearing_signals():
            code = task(cfg, folder)
        if code or not cfg.get("optimise"):
            return code, None
        from semfacediff.records.objective import objective

        return code, objective(folder, cfg.optimise)
    except UserError as e:
        _complain(e)
        return EXIT_MISTAKE, None
    except KeyboardInterrupt as e:
        leave_stopped(e, "the same command continues this run")
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing was written: a mistake leaves no empty folder behind


class Stopped(KeyboardInterrupt):
    """The signal in ``args`` asked this process to end."""


def leave_stopped(why: KeyboardInterrupt, and_now: str) -> NoReturn:
    """Say that Ctrl-C, SIGTERM or SIGHUP ended the program, and leave with the exit code that shells give it."""
    by = why.args[0] if isinstance(why, Stopped) else signal.SIGINT
    print(f"\n{'interrupted' if by == signal.SIGINT else 'stopped'}; {and_now}", file=sys.stderr)
    sys.exit(128 + by)


@contextlib.contextmanager
def _hearing_signals() -> Iterator[None]:
    """Raise :class:`Stopped` on SIGTERM and SIGHUP in the block, where nobody else handles them.

    Under nohup, in jobs of submitit and in threads somebody does. A process that waits for others of its launch could
    not answer, so they end at once as ever.
    """
    main = threading.current_thread() is threading.main_thread() and int(os.environ.get("WORLD_SIZE", 1)) == 1
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if main and signal.getsignal(n) == signal.SIG_DFL]
    owner = os.getpid()

    def stop(number: int, _frame: object) -> None:
        if os.getpid() != owner:  # a worker that was forked from here
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for n in numbers:
            signal.signal(n, signal.SIG_IGN)  # once: what is being written is finished
        raise Stopped(number)

    for n in numbers:
        signal.signal(n, stop)
    try:
        yield
    finally:
        for n in numbers:
            signal.signal(n, signal.SIG_DFL)


class JobFailed(Exception):  # noqa: N818  it says what happened, in one process of perhaps many
    """A job of a sweep ended with the exit code in ``args``; its sentence is printed already."""


def _own_overrides(hydra_cfg: HydraConf) -> list[str]:
    """What this job was asked for, without what belongs to its sweep."""
    of_sweep = ("hydra.mode", "hydra.sweep", "hydra.launcher", "hydra/launcher")
    words: Any = OmegaConf.to_container(hydra_cfg.overrides, resolve=False)  # ${...} as it was typed
    return [*words["task"], *(o for o in words["hydra"] if not o.startswith(of_sweep))]


def _complain(message: object) -> None:
    print(f"error: {message}", file=sys.stderr)
