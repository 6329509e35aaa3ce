"""Runs a task under Hydra the way a user expects: one sentence and exit code 2 for a mistake, no traceback.

Nothing heavy is imported here, so that ``--help`` and ``--cfg job`` answer at once.
"""

import contextlib
import difflib
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from semfacediff.errors import UserError

EXIT_INCOMPLETE = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


def _folder_digest(*, _root_: DictConfig) -> str:
    """First 8 hex digits over what the job's configuration says of the results; names the run's default folder."""
    kept = [k for k in _root_ if k not in ("hydra", "runtime", "tracking")]
    plain = OmegaConf.to_container(OmegaConf.masked_copy(_root_, kept))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _prepare(root: Path) -> None:
    OmegaConf.register_new_resolver("folder_digest", _folder_digest, replace=True)
    os.environ["SEMFACEDIFF_EXPERIMENTS"] = str(root / "experiments")


def composed(config_name: str, overrides: list[str], root: Path) -> DictConfig:
    """The configuration that ``<config_name>.py <overrides>`` would run with, without running it."""
    _prepare(root)
    with hydra.initialize_config_dir(str(root / "conf"), version_base="1.3"):
        return hydra.compose(config_name, overrides)


def run(config_name: str, task: Callable[[DictConfig, Path], int], root: Path) -> None:
    """Compose ``root/conf/<config_name>.yaml``, call ``task(cfg, run_folder)`` and leave with its exit code.

    In a multirun (``-m``) every job runs even if another fails; the worst exit code is the sweep's.
    """
    codes = [0]

    def job(cfg: DictConfig) -> None:
        hydra_cfg = HydraConfig.get()
        folder = Path(hydra_cfg.runtime.output_dir)
        if hydra_cfg.mode == RunMode.MULTIRUN:
            os.environ["SEMFACEDIFF_SWEEP"] = Path(hydra_cfg.sweep.dir).name  # read by conf/tracking
        try:
            codes.append(task(cfg, folder))
        except UserError as e:
            _complain(e)
            codes.append(EXIT_MISTAKE)
        except KeyboardInterrupt:
            print("\ninterrupted; the same command continues this run", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing was written: a mistake leaves no empty folder behind

    _prepare(root)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us instead of Hydra's own traceback
    try:
        hydra.main(version_base="1.3", config_path=str(root / "conf"), config_name=config_name)(job)()
    except HydraException as e:
        _complain(_explained(str(e), root, config_name))
        sys.exit(EXIT_INCOMPLETE)
    except OSError as e:
        # Hydra makes the run folder before our code runs.
        _complain(f"the run folder {e.filename} cannot be made ({e.strerror}); set hydra.run.dir=DIR to a writable one")
        sys.exit(EXIT_MISTAKE)
    sys.exit(max(codes))


def _complain(message: object) -> None:
    print(f"error: {message}", file=sys.stderr)


def _explained(message: str, root: Path, config_name: str) -> str:
    """Hydra's message for an unknown key tells how to force it in; say what is there instead."""
    unknown = re.match(r"Could not override '([^']+)'", message)
    if unknown is None:
        return message.partition("\nConfig search path")[0]
    groups = {p.name for p in (root / "conf").iterdir() if p.is_dir()}
    chosen = [a for a in sys.argv[1:] if a.partition("=")[0] in groups and "," not in a]
    node = composed(config_name, chosen, root)
    *parents, key = unknown[1].split(".")
    for parent in parents:
        node = node[parent] if OmegaConf.is_dict(node) and parent in node else {}
    close = difflib.get_close_matches(key, list(node), n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown key '{unknown[1]}'; {hint}known here: {', '.join(sorted(node)) or 'nothing'}"
