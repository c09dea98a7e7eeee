#!/usr/bin/env bash
# From the Python standard library's own sources to a trained model, on a bare CPU, in minutes.
# Every command is printed before it runs. Usage: recipes/demo.sh [FOLDER]
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$here/.venv/bin:$PATH"
out=${1:-$here/runs/demo}
corpus=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

show() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
}

step() {
    show "$@"
    "$@"
}

mkdir -p "$out"
cd "$out"
sources=("$corpus" --glob '*.py' --glob '!*/site-packages/*' --glob '!*/test*/*' --on-error skip)

step illada tokenize "${sources[@]}" --train-vocab 320 -o tokenizer.json
step illada tokenize "${sources[@]}" --tokenizer tokenizer.json -o tokens
step illada pack tokens -o packed --sequence-length 64 --holdout 0.05
step illada pretrain demo --data packed -o base
step illada generate --ckpt base --max-new-tokens 48 'def __init__(self, name'
step illada score --ckpt base --prompt 'import ' --choices 'os' --choices 'if' --choices 'self'
step python "$here/benchmarks/demo_table.py" packed base

# Documented functions become questions, their bodies answers; some are kept for the end.
step python "$here/recipes/stdlib_pairs.py" .
step illada pack --chat pairs.jsonl --tokenizer tokenizer.json -o pairs-packed --sequence-length 128 --holdout 0.05
step illada sft demo-sft --ckpt base --data pairs-packed -o chat
for model in base chat; do
    asked=(illada generate --ckpt "$model" --jsonl held-out.jsonl --max-new-tokens 128 --block-length 16 --json)
    show "${asked[@]}"
    "${asked[@]}" > "$model-answers.jsonl"
    ended=$(grep -c '"finish_reason": "eos"' "$model-answers.jsonl" || true)
    echo "$model: $ended of $(grep -c . held-out.jsonl) answers end by eos"
done
step illada score --ckpt chat --choices choices.jsonl -o scores.jsonl
show illada chat --ckpt chat
printf 'def size(self):\n' | illada chat --ckpt chat
