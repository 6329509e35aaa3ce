#!/usr/bin/env bash
# From the wheel to a LaTeX table of one's own, on drawn faces: no data, no weights, a few minutes of two cores.
#
#   bash examples/student_walk.sh [DIR]               DIR: a new folder, default student_walk
#   WEIGHTS=FOLDER bash examples/student_walk.sh      with LPIPS and CLIP as published (docs/weights.md)
#
# Without WEIGHTS random networks stand in for LPIPS and CLIP, and the tables say that the run is not comparable.
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd)
mkdir "${1:-student_walk}"
cd "${1:-student_walk}"

echo "== Install the wheel"
"${PYTHON:-python3}" -m venv env
source env/bin/activate
python -m pip wheel --quiet --no-deps --wheel-dir dist "$checkout"
python -m pip install --quiet dist/semfacediff-*.whl
semfacediff --version

echo "== Train a parser"
semfacediff train-parser data=toy data.count=240 data.size=96 parser=fastscnn_lite loss.class_weights=inverse_sqrt \
  train.size=96 train.epochs=4 train.batch_size=8 optim.warmup_steps=20 hydra.run.dir=parser

echo "== Benchmark an editor with it, on other faces"
benchmark=(data=toy data.count=8 data.size=96 data.seed=1 parser.checkpoint=parser editor=recolor prompts=demo
  'attributes=[hair,skin]' metrics.on_missing=skip)
semfacediff evaluate "${benchmark[@]}" hydra.run.dir=recolor

echo "== Add the columns of weights that arrive later; no edit is made again"
if [ -n "${WEIGHTS:-}" ]; then
  semfacediff rescore recolor --add lpips,clip --weights "$WEIGHTS"
else
  semfacediff rescore recolor --add lpips,clip --set weights.lpips_alexnet=random --set weights.clip=random
fi
semfacediff tables recolor --columns toward_prompt,ssim,lpips,clip --out scores.tex

echo "== Try several values of a setting, and make a table of them"
semfacediff evaluate -m "${benchmark[@]}" region.feather_sigma_px=0,15 hydra.sweep.dir=feather
semfacediff tables feather --columns toward_prompt,ssim,seam --out feather.tex

echo "== Look at all of it"
semfacediff report recolor feather --out report
echo "tables: $PWD/scores.tex, $PWD/feather.tex; open $PWD/report/index.html"
