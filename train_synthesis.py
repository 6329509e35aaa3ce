"""Train SCA-DM, faces from label maps: python train_synthesis.py [stage=first] [key=value ...]

python train_synthesis.py experiment=sca_dm/tiny stage=first hydra.run.dir=FIRST
python train_synthesis.py experiment=sca_dm/tiny first_stage.checkpoint=FIRST
"""

import sys

from semfacediff import scripts

if __name__ == "__main__":
    scripts.start("train_synthesis", sys.argv[1:], "python train_synthesis.py")
