#!/usr/bin/env bash
# From nothing to three trained models, on a bare CPU, within ten minutes: one of text, one that
# answers, one that solves small sudokus. Every command is printed before it runs.
# Usage: recipes/demo.sh [FOLDER]
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$here/.venv/bin:$PATH"
out=${1:-$here/runs/demo}
corpus=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

show() {
    printf '\n$'
    for word; do
        case $word in '|' | '&') printf ' %s' "$word" ;; *) printf ' %q' "$word" ;; esac
    done
    printf '\n'
}

step() {
    show "$@"
    "$@"
}

mkdir -p "$out/grids"
cd "$out"

# Sudokus: a token a cell, and what is known stands on both sides of what is hidden.
step python "$here/recipes/sudoku.py" write grids
step illada tokenize grids/grids.jsonl --tokenizer grids/tokenizer.json -o grids/tokens
step illada pack grids/tokens -o grids/packed --sequence-length 43 --holdout 0.005
# Models as small as these leave a second core idle, so this one is trained beside the others.
beside=(illada pretrain sudoku --data grids/packed -o sudoku --set run.threads=1)
show "${beside[@]}" '&'
"${beside[@]}" -q > grids/model.txt &
sudoku=$!
trap 'kill "$sudoku" 2>/dev/null || true' EXIT

# The Python standard library's own sources, in a vocabulary of their own.
sources=("$corpus" --glob '*.py' --glob '!*/site-packages/*' --glob '!*/test*/*' --on-error skip)
step illada tokenize "${sources[@]}" --train-vocab 320 -o tokenizer.json
step illada tokenize "${sources[@]}" --tokenizer tokenizer.json -o tokens
step illada pack tokens -o packed --sequence-length 64 --holdout 0.05
step illada pretrain demo --data packed -o base --set run.threads=1
step illada score --ckpt base --prompt 'import ' --choices 'os' --choices 'if' --choices 'self'

# Its documented functions become questions, their bodies answers; some are kept for the end.
step python "$here/recipes/stdlib_pairs.py" .
step illada pack --chat pairs.jsonl --tokenizer tokenizer.json -o pairs-packed --sequence-length 128 --holdout 0.05
step illada sft demo-sft --ckpt base --data pairs-packed -o chat
step illada score --ckpt chat --choices choices.jsonl -o scores.jsonl

# The sudokus have been learnt meanwhile. Half of the cells of grids that it never saw:
wait "$sudoku"
trap - EXIT
solve=(illada generate --ckpt sudoku --jsonl grids/hidden.jsonl)
step "${solve[@]}" --remasking random -o grids/random.jsonl
step "${solve[@]}" -o grids/surest.jsonl
step "${solve[@]}" --threshold 0.99 -o grids/all-sure.jsonl
asked=(illada generate --ckpt sudoku --jsonl - --trace grids/trace.jsonl)
show head -n 1 grids/hidden.jsonl \| "${asked[@]}"
head -n 1 grids/hidden.jsonl | "${asked[@]}" -q > grids/filled.txt

step python "$here/recipes/sudoku.py" show grids/hidden.jsonl grids/trace.jsonl
for which in random surest all-sure; do
    step python "$here/recipes/sudoku.py" count grids/hidden.jsonl "grids/$which.jsonl"
done
step python "$here/recipes/sudoku.py" bound sudoku
step python "$here/benchmarks/demo_table.py" packed base
cat <<END

Go on, in $out:
  illada serve --ckpt sudoku        # a page in the browser: paste a grid, select cells, refill them
  illada chat --ckpt chat           # asked for 'def size(self):', it writes a body, a small model's
  illada runs .                     # the three runs side by side; curves.png is in each folder
  illada help tutorial              # what all this is
END
