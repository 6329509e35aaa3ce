"""Train a face parser: python train_parser.py parser=fastscnn_lite data=... [key=value ...]

python train_parser.py data=toy train.epochs=2 train.size=128
"""

from pathlib import Path

from semfacediff import hydra_app


def task(cfg, folder):
    from semfacediff import config, runs

    return runs.start(config.typed(cfg, config.ParserTraining), folder)


if __name__ == "__main__":
    hydra_app.run("train_parser", task, Path(__file__).resolve().parent)
