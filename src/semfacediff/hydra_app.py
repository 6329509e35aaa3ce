"""Runs a task under Hydra the way a user expects: one sentence and exit code 2 for a mistake, no traceback.

Nothing heavy is imported here, so that ``--help`` and ``--cfg job`` answer at once.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from semfacediff.errors import UserError

EXIT_INCOMPLETE = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


def _folder_digest(*, _root_: DictConfig) -> str:
    """First 8 hex digits over the job's configuration without ``runtime``; names the run's default folder."""
    plain = OmegaConf.to_container(OmegaConf.masked_copy(_root_, [k for k in _root_ if k not in ("hydra", "runtime")]))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:8]


def run(config_name: str, task: Callable[[DictConfig, Path], int], root: Path) -> None:
    """Compose ``root/conf/<config_name>.yaml``, call ``task(cfg, run_folder)`` and leave with its exit code.

    In a multirun (``-m``) every job runs even if another fails; the worst exit code is the sweep's.
    """
    codes = [0]

    def job(cfg: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            codes.append(task(cfg, folder))
        except UserError as e:
            _complain(e)
            codes.append(EXIT_MISTAKE)
        except KeyboardInterrupt:
            print("interrupted; the same command continues this run", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing was written: a mistake leaves no empty folder behind

    OmegaConf.register_new_resolver("folder_digest", _folder_digest, replace=True)
    os.environ.setdefault("SEMFACEDIFF_EXPERIMENTS", str(root / "experiments"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us instead of Hydra's own traceback
    try:
        hydra.main(version_base="1.3", config_path=str(root / "conf"), config_name=config_name)(job)()
    except HydraException as e:
        _complain(e)
        sys.exit(EXIT_INCOMPLETE)
    except OSError as e:
        # Hydra makes the run folder before our code runs.
        _complain(
            f"the run folder {e.filename} cannot be made ({e.strerror}); set hydra.run.dir=DIR to a writable place"
        )
        sys.exit(EXIT_MISTAKE)
    sys.exit(max(codes))


def _complain(message: object) -> None:
    print(f"error: {message}", file=sys.stderr)
