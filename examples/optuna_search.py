"""Search the learning rates of a parser with Optuna; poor trials end early.

    python examples/optuna_search.py [--trials 20] [KEY=VALUE ...]

Every trial is ``semfacediff train-parser`` in a folder of its own, read while it grows. The study is kept in
``outputs/optuna/study.db``: the same command continues it. Needs ``pip install optuna``.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd

from semfacediff.records.objective import objective

FOLDER, NAME = Path("outputs/optuna"), "val_miou"


def validated(history: Path) -> pd.DataFrame:
    """The epochs that were validated so far."""
    return pd.read_csv(history).dropna(subset=[NAME]) if history.exists() else pd.DataFrame()


def train(trial: optuna.Trial, words: list[str]) -> float:
    rate = trial.suggest_float("optim.decoder_lr", 1e-4, 1e-2, log=True)
    share = trial.suggest_float("encoder_share", 0.05, 1.0, log=True)
    rates = [f"optim.decoder_lr={rate}", f"optim.encoder_lr={rate * share}"]
    folder = FOLDER / f"trial-{trial.number}"
    command = [sys.executable, "-m", "semfacediff.cli", "train-parser", *words, *rates, f"hydra.run.dir={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    told = 0
    while process.poll() is None:
        time.sleep(0.5)
        for _, row in validated(folder / "history.csv").iloc[told:].iterrows():
            trial.report(row[NAME], int(row["epoch"]))
            told += 1
        if trial.should_prune():
            process.send_signal(signal.SIGTERM)  # its record stays, and can be continued
            process.wait()
            raise optuna.TrialPruned
    if process.returncode:
        raise RuntimeError(f"trial {trial.number} ended with code {process.returncode}; see the message above")
    return objective(folder, NAME)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    options, overrides = parser.parse_known_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{FOLDER}/study.db"
    study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize", load_if_exists=True)
    study.optimize(lambda trial: train(trial, overrides), options.trials, catch=RuntimeError)
    print(f"best {NAME}: {study.best_value:.4f} with {study.best_params}")
