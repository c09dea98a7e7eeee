#!/usr/bin/env bash
# From the Python standard library's own sources to a trained model, on a bare CPU, in minutes.
# Every command is printed before it runs. Usage: recipes/demo.sh [FOLDER]
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$here/.venv/bin:$PATH"
out=${1:-$here/runs/demo}
corpus=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

step() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

mkdir -p "$out"
cd "$out"
sources=("$corpus" --glob '*.py' --glob '!*/site-packages/*' --glob '!*/test*/*' --on-error skip)

step illada tokenize "${sources[@]}" --train-vocab 2048 -o tokenizer.json
step illada tokenize "${sources[@]}" --tokenizer tokenizer.json -o tokens
step illada pack tokens -o packed --sequence-length 64 --holdout 0.05
step illada pretrain demo --data packed -o run
step illada generate --ckpt run --max-new-tokens 24 'def __init__(self, name'
step illada score --ckpt run --prompt 'import ' --choices 'os' --choices 'if' --choices 'self'
step python "$here/benchmarks/demo_table.py" packed run
