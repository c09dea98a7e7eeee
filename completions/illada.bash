# bash completion for illada (made by `make completions`: do not edit)
_illada() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "tokenize pack pretrain sft runs generate score eval convert chat serve help --help --version" -- "$word"))
        return
    fi
    if [[ "$word" == "=" ]]; then
        word=""
    elif [[ "$before" == "=" ]]; then
        before="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    case "${COMP_WORDS[1]} $before" in
        "tokenize --format") COMPREPLY=($(compgen -W "auto text lines jsonl" -- "$word")); return ;;
        "tokenize --on-error") COMPREPLY=($(compgen -W "stop skip" -- "$word")); return ;;
        "tokenize --engine") COMPREPLY=($(compgen -W "auto fastokens tokenizers" -- "$word")); return ;;
        "tokenize --executor") COMPREPLY=($(compgen -W "local ray" -- "$word")); return ;;
        "pack --mode") COMPREPLY=($(compgen -W "stream fit" -- "$word")); return ;;
        "pack --segments") COMPREPLY=($(compgen -W "row document" -- "$word")); return ;;
        "pack --on-long") COMPREPLY=($(compgen -W "drop cut" -- "$word")); return ;;
        "pack --on-error") COMPREPLY=($(compgen -W "stop skip" -- "$word")); return ;;
        "pack --executor") COMPREPLY=($(compgen -W "local ray" -- "$word")); return ;;
        "pretrain --set") compopt -o nospace 2>/dev/null; COMPREPLY=($(compgen -W "model.ckpt= model.adapt= model.shift= model.layers= model.width= model.heads= model.kv_heads= model.head_size= model.ffn_size= model.vocab_size= model.max_length= model.rope_theta= model.norm_eps= model.tied= model.initializer_range= lora.rank= lora.alpha= lora.targets= data.path= data.mixture= data.holdout= objective.masking= objective.ratio= objective.epsilon= objective.weights= objective.cart_p= objective.split_probability= objective.mask= objective.normalize= batch.rows= batch.micro_rows= optimizer.peak_lr= optimizer.weight_decay= optimizer.beta1= optimizer.beta2= optimizer.epsilon= optimizer.clip_norm= optimizer.keep_moments= schedule.warmup_tokens= schedule.final_lr= schedule.anneal_tokens= schedule.decay= schedule.decay_start_tokens= schedule.decay_share= schedule.extension= schedule.plateau= schedule.plateau_window_tokens= schedule.plateau_windows= schedule.plateau_drop= run.total_tokens= run.epochs= run.seed= run.compute_dtype= run.float8= run.attention= run.compile= run.recompute= run.device= run.threads= run.peak_tflops= run.max_bad_steps= parallel.shard= parallel.timeout_s= parallel.check_health= validation.every_steps= validation.rows= validation.least_tokens= validation.sample_every= validation.samples= generation.block_length= generation.max_new_tokens= checkpoint.every_steps= checkpoint.ephemeral_every_steps= checkpoint.on_error= checkpoint.keep_last= checkpoint.keep_every_steps= checkpoint.mirror= log.curves= log.tensorboard= log.tracker= plan.device= plan.devices= plan.mfu= plan.write_gb_per_s=" -- "$word")); return ;;
        "pretrain model.adapt") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain model.shift") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain model.tied") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain lora.targets") COMPREPLY=($(compgen -W "all attention ffn" -- "$word")); return ;;
        "pretrain objective.masking") COMPREPLY=($(compgen -W "bernoulli fixed-count" -- "$word")); return ;;
        "pretrain objective.ratio") COMPREPLY=($(compgen -W "uniform stratified" -- "$word")); return ;;
        "pretrain objective.weights") COMPREPLY=($(compgen -W "ratio cart" -- "$word")); return ;;
        "pretrain objective.mask") COMPREPLY=($(compgen -W "all response turn" -- "$word")); return ;;
        "pretrain objective.normalize") COMPREPLY=($(compgen -W "tokens length" -- "$word")); return ;;
        "pretrain optimizer.keep_moments") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain schedule.decay") COMPREPLY=($(compgen -W "cosine linear none" -- "$word")); return ;;
        "pretrain schedule.extension") COMPREPLY=($(compgen -W "none rewarm constant" -- "$word")); return ;;
        "pretrain schedule.plateau") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain run.compute_dtype") COMPREPLY=($(compgen -W "bfloat16 float32" -- "$word")); return ;;
        "pretrain run.float8") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain run.attention") COMPREPLY=($(compgen -W "auto varlen flash sdpa matmul" -- "$word")); return ;;
        "pretrain run.compile") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain run.recompute") COMPREPLY=($(compgen -W "none selective full" -- "$word")); return ;;
        "pretrain parallel.check_health") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain checkpoint.on_error") COMPREPLY=($(compgen -W "stop continue" -- "$word")); return ;;
        "pretrain log.curves") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain log.tensorboard") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "pretrain log.tracker") COMPREPLY=($(compgen -W "none wandb trackio" -- "$word")); return ;;
        "sft --set") compopt -o nospace 2>/dev/null; COMPREPLY=($(compgen -W "model.ckpt= model.adapt= model.shift= model.layers= model.width= model.heads= model.kv_heads= model.head_size= model.ffn_size= model.vocab_size= model.max_length= model.rope_theta= model.norm_eps= model.tied= model.initializer_range= lora.rank= lora.alpha= lora.targets= data.path= data.mixture= data.holdout= objective.masking= objective.ratio= objective.epsilon= objective.weights= objective.cart_p= objective.split_probability= objective.mask= objective.normalize= batch.rows= batch.micro_rows= optimizer.peak_lr= optimizer.weight_decay= optimizer.beta1= optimizer.beta2= optimizer.epsilon= optimizer.clip_norm= optimizer.keep_moments= schedule.warmup_tokens= schedule.final_lr= schedule.anneal_tokens= schedule.decay= schedule.decay_start_tokens= schedule.decay_share= schedule.extension= schedule.plateau= schedule.plateau_window_tokens= schedule.plateau_windows= schedule.plateau_drop= run.total_tokens= run.epochs= run.seed= run.compute_dtype= run.float8= run.attention= run.compile= run.recompute= run.device= run.threads= run.peak_tflops= run.max_bad_steps= parallel.shard= parallel.timeout_s= parallel.check_health= validation.every_steps= validation.rows= validation.least_tokens= validation.sample_every= validation.samples= generation.block_length= generation.max_new_tokens= checkpoint.every_steps= checkpoint.ephemeral_every_steps= checkpoint.on_error= checkpoint.keep_last= checkpoint.keep_every_steps= checkpoint.mirror= log.curves= log.tensorboard= log.tracker= plan.device= plan.devices= plan.mfu= plan.write_gb_per_s=" -- "$word")); return ;;
        "sft model.adapt") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft model.shift") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft model.tied") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft lora.targets") COMPREPLY=($(compgen -W "all attention ffn" -- "$word")); return ;;
        "sft objective.masking") COMPREPLY=($(compgen -W "bernoulli fixed-count" -- "$word")); return ;;
        "sft objective.ratio") COMPREPLY=($(compgen -W "uniform stratified" -- "$word")); return ;;
        "sft objective.weights") COMPREPLY=($(compgen -W "ratio cart" -- "$word")); return ;;
        "sft objective.mask") COMPREPLY=($(compgen -W "all response turn" -- "$word")); return ;;
        "sft objective.normalize") COMPREPLY=($(compgen -W "tokens length" -- "$word")); return ;;
        "sft optimizer.keep_moments") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft schedule.decay") COMPREPLY=($(compgen -W "cosine linear none" -- "$word")); return ;;
        "sft schedule.extension") COMPREPLY=($(compgen -W "none rewarm constant" -- "$word")); return ;;
        "sft schedule.plateau") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft run.compute_dtype") COMPREPLY=($(compgen -W "bfloat16 float32" -- "$word")); return ;;
        "sft run.float8") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft run.attention") COMPREPLY=($(compgen -W "auto varlen flash sdpa matmul" -- "$word")); return ;;
        "sft run.compile") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft run.recompute") COMPREPLY=($(compgen -W "none selective full" -- "$word")); return ;;
        "sft parallel.check_health") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft checkpoint.on_error") COMPREPLY=($(compgen -W "stop continue" -- "$word")); return ;;
        "sft log.curves") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft log.tensorboard") COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
        "sft log.tracker") COMPREPLY=($(compgen -W "none wandb trackio" -- "$word")); return ;;
        "generate --truncate") COMPREPLY=($(compgen -W "left" -- "$word")); return ;;
        "generate --on-error") COMPREPLY=($(compgen -W "stop skip" -- "$word")); return ;;
        "generate --preset") COMPREPLY=($(compgen -W "bbh-base dream-eval dream gsm8k-base gsm8k-instruct humaneval-base humaneval-instruct math-base math-instruct mbpp-base mbpp-instruct mmlu-instruct mmlu-pro-instruct mmlu-redux-instruct" -- "$word")); return ;;
        "generate --canvas") COMPREPLY=($(compgen -W "variable fixed" -- "$word")); return ;;
        "generate --eos-guard") COMPREPLY=($(compgen -W "none logits confidence" -- "$word")); return ;;
        "generate --remasking") COMPREPLY=($(compgen -W "low-confidence random margin entropy" -- "$word")); return ;;
        "generate --confidence-from") COMPREPLY=($(compgen -W "raw tempered" -- "$word")); return ;;
        "generate --schedule") COMPREPLY=($(compgen -W "even dream" -- "$word")); return ;;
        "generate --cache") COMPREPLY=($(compgen -W "none block" -- "$word")); return ;;
        "generate --dtype") COMPREPLY=($(compgen -W "auto float32 bfloat16 float16" -- "$word")); return ;;
        "generate --quantize") COMPREPLY=($(compgen -W "int8 int4" -- "$word")); return ;;
        "generate --attention") COMPREPLY=($(compgen -W "full causal" -- "$word")); return ;;
        "score --truncate") COMPREPLY=($(compgen -W "left" -- "$word")); return ;;
        "score --on-error") COMPREPLY=($(compgen -W "stop skip" -- "$word")); return ;;
        "score --rule") COMPREPLY=($(compgen -W "confidence likelihood one-shot exact" -- "$word")); return ;;
        "score --normalize") COMPREPLY=($(compgen -W "sum token byte character" -- "$word")); return ;;
        "score --dtype") COMPREPLY=($(compgen -W "auto float32 bfloat16 float16" -- "$word")); return ;;
        "score --quantize") COMPREPLY=($(compgen -W "int8 int4" -- "$word")); return ;;
        "score --attention") COMPREPLY=($(compgen -W "full causal" -- "$word")); return ;;
        "eval --tasks"|"eval -t") COMPREPLY=($(compgen -W "arc_challenge arc_easy bbh gsm8k gsm8k_chat gsm8k_cot hellaswag humaneval humaneval_chat math math_chat mbpp mbpp_chat mmlu mmlu_chat mmlu_pro_chat mmlu_redux_chat openbookqa piqa winogrande" -- "$word")); return ;;
        "eval --preset") COMPREPLY=($(compgen -W "dream-base dream-instruct llada-base llada-instruct paper-base paper-instruct" -- "$word")); return ;;
        "eval --truncate") COMPREPLY=($(compgen -W "left" -- "$word")); return ;;
        "eval --attention") COMPREPLY=($(compgen -W "full causal" -- "$word")); return ;;
        "eval --dtype") COMPREPLY=($(compgen -W "auto float32 bfloat16 float16" -- "$word")); return ;;
        "eval --quantize") COMPREPLY=($(compgen -W "int8 int4" -- "$word")); return ;;
        "eval --inspect") COMPREPLY=($(compgen -W "arc_challenge arc_easy bbh gsm8k gsm8k_chat gsm8k_cot hellaswag humaneval humaneval_chat math math_chat mbpp mbpp_chat mmlu mmlu_chat mmlu_pro_chat mmlu_redux_chat openbookqa piqa winogrande" -- "$word")); return ;;
        "convert --layout") COMPREPLY=($(compgen -W "illada llada dream qwen2 llama qwen3" -- "$word")); return ;;
        "convert --dtype") COMPREPLY=($(compgen -W "auto float32 bfloat16 float16" -- "$word")); return ;;
        "convert --attention") COMPREPLY=($(compgen -W "full causal" -- "$word")); return ;;
        "chat --truncate") COMPREPLY=($(compgen -W "left" -- "$word")); return ;;
        "chat --preset") COMPREPLY=($(compgen -W "bbh-base dream-eval dream gsm8k-base gsm8k-instruct humaneval-base humaneval-instruct math-base math-instruct mbpp-base mbpp-instruct mmlu-instruct mmlu-pro-instruct mmlu-redux-instruct" -- "$word")); return ;;
        "chat --canvas") COMPREPLY=($(compgen -W "variable fixed" -- "$word")); return ;;
        "chat --eos-guard") COMPREPLY=($(compgen -W "none logits confidence" -- "$word")); return ;;
        "chat --remasking") COMPREPLY=($(compgen -W "low-confidence random margin entropy" -- "$word")); return ;;
        "chat --confidence-from") COMPREPLY=($(compgen -W "raw tempered" -- "$word")); return ;;
        "chat --schedule") COMPREPLY=($(compgen -W "even dream" -- "$word")); return ;;
        "chat --cache") COMPREPLY=($(compgen -W "none block" -- "$word")); return ;;
        "chat --dtype") COMPREPLY=($(compgen -W "auto float32 bfloat16 float16" -- "$word")); return ;;
        "chat --quantize") COMPREPLY=($(compgen -W "int8 int4" -- "$word")); return ;;
        "chat --attention") COMPREPLY=($(compgen -W "full causal" -- "$word")); return ;;
        "serve --preset") COMPREPLY=($(compgen -W "bbh-base dream-eval dream gsm8k-base gsm8k-instruct humaneval-base humaneval-instruct math-base math-instruct mbpp-base mbpp-instruct mmlu-instruct mmlu-pro-instruct mmlu-redux-instruct" -- "$word")); return ;;
        "serve --canvas") COMPREPLY=($(compgen -W "variable fixed" -- "$word")); return ;;
        "serve --eos-guard") COMPREPLY=($(compgen -W "none logits confidence" -- "$word")); return ;;
        "serve --remasking") COMPREPLY=($(compgen -W "low-confidence random margin entropy" -- "$word")); return ;;
        "serve --confidence-from") COMPREPLY=($(compgen -W "raw tempered" -- "$word")); return ;;
        "serve --schedule") COMPREPLY=($(compgen -W "even dream" -- "$word")); return ;;
        "serve --cache") COMPREPLY=($(compgen -W "none block" -- "$word")); return ;;
        "serve --truncate") COMPREPLY=($(compgen -W "left" -- "$word")); return ;;
        "serve --dtype") COMPREPLY=($(compgen -W "auto float32 bfloat16 float16" -- "$word")); return ;;
        "serve --quantize") COMPREPLY=($(compgen -W "int8 int4" -- "$word")); return ;;
        "serve --attention") COMPREPLY=($(compgen -W "full causal" -- "$word")); return ;;
    esac
    if [[ "$word" == -* ]]; then
        case "${COMP_WORDS[1]}" in
            tokenize) COMPREPLY=($(compgen -W "--help -h --tokenizer --output -o --format --text-key --encoding --scan --glob --on-error --train-vocab --eos --mask --engine --decode --shard-tokens --part --merge --executor --workers --fresh --dry-run -n --json --quiet -q --verbose -v" -- "$word")) ;;
            pack) COMPREPLY=($(compgen -W "--help -h --output -o --sequence-length --mode --segments --shuffle --no-shuffle --seed --holdout --tokenizer --chat --on-long --eos-padding --on-error --skip-limit --date --part --merge --executor --workers --stats --verify --fresh --dry-run -n --json --quiet -q --verbose -v" -- "$word")) ;;
            pretrain) COMPREPLY=($(compgen -W "--help -h --resume --data --mixture --ckpt --set -o --output --nproc --nodes --node --meet --restarts --fresh --dry-run -n --gpus --gpu --quiet -q --verbose -v" -- "$word")) ;;
            sft) COMPREPLY=($(compgen -W "--help -h --resume --ckpt --data --mixture --set -o --output --nproc --nodes --node --meet --restarts --fresh --dry-run -n --gpus --gpu --quiet -q --verbose -v" -- "$word")) ;;
            runs) COMPREPLY=($(compgen -W "--help -h --compare --json --quiet -q" -- "$word")) ;;
            generate) COMPREPLY=($(compgen -W "--help -h --ckpt --file -f --jsonl --infill --chat --system --bos --no-bos --truncate --on-error --preset --canvas --max-new-tokens --block-length --steps-per-block --stop --stop-id --temperature --top-p --top-k --seed --cfg --eos-guard --end-thinking --end-thinking-boost --end-thinking-power --remasking --confidence-from --alg-temp --schedule --threshold --factor --entropy-bound --cache --refresh-every --refresh-after --vicinity --samples --device --dtype --quantize --graphs --mask-id --attention --shift --no-shift --batch-tokens --cache-tokens --output -o --fresh --json --stream --trace --quiet -q --verbose -v" -- "$word")) ;;
            score) COMPREPLY=($(compgen -W "--help -h --ckpt --prompt --choices --jsonl --text --map --chat --delimiter --bos --no-bos --truncate --on-error --rule --visible-eos --normalize --pick-only --samples --stop-gap --cfg --seed --window --stride --device --dtype --quantize --mask-id --attention --shift --no-shift --batch-tokens --output -o --fresh --json --quiet -q --verbose -v" -- "$word")) ;;
            eval) COMPREPLY=($(compgen -W "--help -h --ckpt --tasks -t --data --shots-from --limit -L --preset --shots --samples --set --compare-rules --baseline --run-code --chat --bos --no-bos --truncate --seed --nproc --attention --shift --no-shift --device --dtype --quantize --graphs --mask-id --batch-tokens --cache-tokens --output -o --fresh --json --markdown --plot --dry-run -n --probe --plan-device --list --inspect --report --against --rescore --quiet -q --verbose -v" -- "$word")) ;;
            convert) COMPREPLY=($(compgen -W "--help -h --output -o --layout --dtype --add-mask --merge-lora --shard-size --card --verify --attention --shift --no-shift --dry-run -n --json --quiet -q --verbose -v" -- "$word")) ;;
            chat) COMPREPLY=($(compgen -W "--help -h --ckpt --system --load --truncate --preset --canvas --max-new-tokens --block-length --steps-per-block --stop --stop-id --temperature --top-p --top-k --seed --cfg --eos-guard --end-thinking --end-thinking-boost --end-thinking-power --remasking --confidence-from --alg-temp --schedule --threshold --factor --entropy-bound --cache --refresh-every --refresh-after --vicinity --device --dtype --quantize --graphs --mask-id --attention --shift --no-shift --json --quiet -q --verbose -v" -- "$word")) ;;
            serve) COMPREPLY=($(compgen -W "--help -h --ckpt --host --port --name --api-key-file --no-api-key --allow-host --cors --max-waiting --timeout --grace --preset --canvas --max-new-tokens --block-length --steps-per-block --stop --stop-id --temperature --top-p --top-k --seed --cfg --eos-guard --end-thinking --end-thinking-boost --end-thinking-power --remasking --confidence-from --alg-temp --schedule --threshold --factor --entropy-bound --cache --refresh-every --refresh-after --vicinity --bos --no-bos --truncate --device --dtype --quantize --graphs --mask-id --attention --shift --no-shift --batch-tokens --cache-tokens --quiet -q --verbose -v" -- "$word")) ;;
            help) COMPREPLY=($(compgen -W "--help -h" -- "$word")) ;;
        esac
        return
    fi
    COMPREPLY=($(compgen -f -- "$word"))
    case "${COMP_WORDS[1]}" in
        pretrain) COMPREPLY+=($(compgen -W "100m 1b 8b-sft 8b adapt demo-sft demo sudoku" -- "$word")) ;;
        sft) COMPREPLY+=($(compgen -W "100m 1b 8b-sft 8b adapt demo-sft demo sudoku" -- "$word")) ;;
        help) COMPREPLY+=($(compgen -W "design evaluation families formats generation python recipes reliability reproduce scale scoring serving tutorial" -- "$word")) ;;
    esac
}
complete -o filenames -F _illada illada
