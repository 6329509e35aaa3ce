"""Train SCA-DM, faces from label maps: python train_synthesis.py [stage=first] [key=value ...]

python train_synthesis.py experiment=sca_dm/tiny stage=first hydra.run.dir=FIRST
python train_synthesis.py experiment=sca_dm/tiny first_stage.checkpoint=FIRST
"""

from pathlib import Path

from semfacediff import hydra_app


def task(cfg, folder):
    from semfacediff import config, runs

    return runs.start(config.typed(cfg, config.SynthesisTraining), folder)


if __name__ == "__main__":
    hydra_app.run("train_synthesis", task, Path(__file__).resolve().parent)
