# bash completion for illada (made by `make completions`: do not edit)
_illada() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "tokenize pack pretrain sft generate score chat --help --version" -- "$word"))
        return
    fi
    case "${COMP_WORDS[1]} $before" in
        "tokenize --format") COMPREPLY=($(compgen -W "auto text lines jsonl" -- "$word")); return ;;
        "tokenize --on-error") COMPREPLY=($(compgen -W "stop skip" -- "$word")); return ;;
        "tokenize --engine") COMPREPLY=($(compgen -W "auto fastokens tokenizers" -- "$word")); return ;;
        "pack --mode") COMPREPLY=($(compgen -W "stream fit" -- "$word")); return ;;
        "pack --segments") COMPREPLY=($(compgen -W "row document" -- "$word")); return ;;
        "pack --on-long") COMPREPLY=($(compgen -W "drop cut" -- "$word")); return ;;
        "pack --on-error") COMPREPLY=($(compgen -W "stop skip" -- "$word")); return ;;
        "generate --truncate") COMPREPLY=($(compgen -W "left" -- "$word")); return ;;
        "generate --on-error") COMPREPLY=($(compgen -W "stop skip" -- "$word")); return ;;
        "generate --canvas") COMPREPLY=($(compgen -W "variable fixed" -- "$word")); return ;;
        "generate --eos-guard") COMPREPLY=($(compgen -W "none logits confidence" -- "$word")); return ;;
        "generate --remasking") COMPREPLY=($(compgen -W "low-confidence random margin entropy" -- "$word")); return ;;
        "generate --dtype") COMPREPLY=($(compgen -W "auto float32 bfloat16 float16" -- "$word")); return ;;
        "score --truncate") COMPREPLY=($(compgen -W "left" -- "$word")); return ;;
        "score --on-error") COMPREPLY=($(compgen -W "stop skip" -- "$word")); return ;;
        "score --rule") COMPREPLY=($(compgen -W "confidence likelihood one-shot" -- "$word")); return ;;
        "score --normalize") COMPREPLY=($(compgen -W "sum token byte character" -- "$word")); return ;;
        "score --dtype") COMPREPLY=($(compgen -W "auto float32 bfloat16 float16" -- "$word")); return ;;
        "chat --truncate") COMPREPLY=($(compgen -W "left" -- "$word")); return ;;
        "chat --canvas") COMPREPLY=($(compgen -W "variable fixed" -- "$word")); return ;;
        "chat --eos-guard") COMPREPLY=($(compgen -W "none logits confidence" -- "$word")); return ;;
        "chat --remasking") COMPREPLY=($(compgen -W "low-confidence random margin entropy" -- "$word")); return ;;
        "chat --dtype") COMPREPLY=($(compgen -W "auto float32 bfloat16 float16" -- "$word")); return ;;
    esac
    if [[ "$word" == -* ]]; then
        case "${COMP_WORDS[1]}" in
            tokenize) COMPREPLY=($(compgen -W "--help -h --tokenizer --output -o --format --text-key --encoding --scan --glob --on-error --train-vocab --eos --mask --engine --decode --shard-tokens --workers --fresh --dry-run -n --json --quiet -q --verbose -v" -- "$word")) ;;
            pack) COMPREPLY=($(compgen -W "--help -h --output -o --sequence-length --mode --segments --shuffle --no-shuffle --seed --holdout --tokenizer --chat --on-long --eos-padding --on-error --skip-limit --date --workers --stats --verify --fresh --dry-run -n --json --quiet -q --verbose -v" -- "$word")) ;;
            pretrain) COMPREPLY=($(compgen -W "--help -h --data --ckpt --set -o --output --nproc --fresh --dry-run -n --quiet -q --verbose -v" -- "$word")) ;;
            sft) COMPREPLY=($(compgen -W "--help -h --ckpt --data --set -o --output --nproc --fresh --dry-run -n --quiet -q --verbose -v" -- "$word")) ;;
            generate) COMPREPLY=($(compgen -W "--help -h --ckpt --file -f --jsonl --infill --chat --system --bos --no-bos --truncate --on-error --preset --canvas --max-new-tokens --block-length --steps-per-block --stop --stop-id --temperature --top-p --seed --cfg --eos-guard --end-thinking --end-thinking-boost --end-thinking-power --remasking --threshold --factor --entropy-bound --samples --device --dtype --mask-id --batch-tokens --json --stream --trace --quiet -q --verbose -v" -- "$word")) ;;
            score) COMPREPLY=($(compgen -W "--help -h --ckpt --prompt --choices --jsonl --text --map --chat --delimiter --bos --no-bos --truncate --on-error --rule --visible-eos --normalize --pick-only --samples --stop-gap --cfg --seed --window --stride --device --dtype --mask-id --batch-tokens --output -o --fresh --json --quiet -q --verbose -v" -- "$word")) ;;
            chat) COMPREPLY=($(compgen -W "--help -h --ckpt --system --load --truncate --preset --canvas --max-new-tokens --block-length --steps-per-block --stop --stop-id --temperature --top-p --seed --cfg --eos-guard --end-thinking --end-thinking-boost --end-thinking-power --remasking --threshold --factor --entropy-bound --device --dtype --mask-id --json --quiet -q --verbose -v" -- "$word")) ;;
        esac
        return
    fi
    COMPREPLY=($(compgen -f -- "$word"))
}
complete -o filenames -F _illada illada
