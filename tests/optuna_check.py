"""A search with hydra-optuna-sweeper, in an environment of its own: ``make optuna-check``. Needs a package index.

The sweeper wants older packages than the project has (see docs/sweeps.md). The environment sees this interpreter's
packages behind its own.
"""

import json
import site
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SWEEPER = ("hydra-optuna-sweeper", "optuna<3", "sqlalchemy<2", "alembic<1.13", "omegaconf<2.4", "hydra-core<1.4")
SEARCH = (
    "-m hydra/sweeper=optuna hydra.sweeper.n_trials=3 hydra.sweeper.direction=maximize "
    "optim.decoder_lr=interval(1e-4,1e-2) optimise=val_miou data=toy data.size=32 data.count=8 "
    "train.size=32 train.epochs=1 train.batch_size=4 optim.warmup_steps=1 runtime.workers=0 runtime.device=cpu"
).split()


def main() -> int:
    """The search's exit code; 1 if it made another number of trainings, or kept no best value."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "env", with_pip=True)
        python = home / "env" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *SWEEPER], check=True)
        own = next((home / "env" / "lib").glob("python*/site-packages"))
        (own / "behind.pth").write_text("\n".join([str(REPOSITORY / "src"), *site.getsitepackages()]))
        sweep = f"hydra.sweep.dir={home}/sweep"
        done = subprocess.run([python, REPOSITORY / "train_parser.py", *SEARCH, sweep], cwd=home)
        best = home / "sweep" / "optimization_results.yaml"
        print(best.read_text() if best.exists() else "no results were written", end="")
        index = home / "sweep" / "sweep.json"
        cells = json.loads(index.read_text())["cells"] if index.exists() else {}
        print(f"{len(cells)} trainings: {', '.join(sorted(cell['status'] for cell in cells.values()))}")
        return done.returncode or int(not best.exists() or len(cells) != 3)


if __name__ == "__main__":
    sys.exit(main())
