#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole road on a tiny model: init, train, eval, merge, export, generate, chat; every --json; the
# relations that must hold between what the verbs print.
set -uo pipefail
. "$(dirname "$0")/common.sh"
tiny_model

# init: an adapter at step 0 does not change the function, whatever the method.
logits() { # FILE ARGUMENTS...
  local file=$1
  shift
  expect 0 logits "$@" --ids '5 9 300 17 42' --dtype f32 --out "$file"
}
logits base.npy base
[ "$(tail -c +129 base.npy | wc -c)" -eq $((5 * 512 * 4)) ] || fail "logits: wrong size"
for method in milora pissa mid random lora; do
  expect 0 init base "init-$method" --method "$method" --rank 4
  holds "trainable params: 2,816 || all params: 37,792 || trainable%: 7.4513" out
  [ "$(grep -c '^model.layers' out)" -eq 10 ] || fail "init $method: not ten rows"
  logits init.npy base --adapter "init-$method"
  cmp -s base.npy init.npy || fail "init $method changed the logits"
done
# From data: what train starts from, with the same data, template, seed and 16 samples a step.
ga="--method lora_ga --rank 4 --dropout 0"
refused 2 "--dataset FILE" init base refused $ga
refused 2 "starts without data" init base refused --method lora --dataset data.jsonl
refused 2 "r is at most 8" init base refused --method lora_ga --rank 9 --dataset data.jsonl
expect 0 init base init-ga $ga --dataset data.jsonl --template plain --max-length 128 --batches 2 --dtype f32
holds "gradient of 10 weights over 32 samples" err
logits init.npy base --adapter init-ga
cmp -s base.npy init.npy || fail "init lora_ga changed the logits"
expect 0 train model_name_or_path=base method=lora_ga lora_ga_batches=2 r=4 lora_dropout=0 output_dir=train-ga \
  max_steps=1 $common_keys per_device_train_batch_size=16 learning_rate=0
cmp -s init-ga/adapter_model.safetensors train-ga/adapter_model.safetensors ||
  fail "train starts lora_ga from other factors than init"
expect 0 init base init-all --rank 2 --target-modules all-linear --json
is_json out "init --json"
grep -q '"trainable": 2048' out || fail "init --json: $(head -c 300 out)"
refused 2 "exists already" init base init-lora

# The cache gives the same adapter without computing.
expect 0 init base cached-1 --rank 4 --svd-cache cache
expect 0 init base cached-2 --rank 4 --svd-cache cache
holds "from the cache" out
diff -r cached-1 cached-2 >/dev/null || fail "the cached adapter differs"
diff -r cached-1 init-milora >/dev/null || fail "the adapter differs from the one without a cache"
expect 0 init base cached-3 --rank 3 --svd-cache cache
holds "10 from the cache" out
expect 0 init base cached-5 --rank 5 --svd-cache cache
grep -q "from the cache" out && fail "a larger rank was taken from the cache"

# validate, dry run, train.
keys="model_name_or_path=base method=milora r=4 output_dir=adapter max_steps=30 learning_rate=1e-2 lora_dropout=0 $common_keys"
expect 0 validate $keys
holds "trainable params: 2,816" out
holds "[[number" out
expect 0 validate $keys --json
is_json out "validate --json"
expect 0 train $keys --dry-run
holds "predicted peak" out
expect 0 train $keys --dry-run --json
is_json out "train --dry-run --json"
[ -e adapter ] && fail "--dry-run or validate wrote something"
expect 0 train $keys
[ "$(cat out)" = adapter ] || fail "train prints on standard output: $(cat out)"
holds "trainable params: 2,816 || all params: 37,792 || trainable%: 7.4513" err
grep -qE '^step  1/30 \| loss [0-9.]{8,} \| norm [0-9.]+ \| lr [0-9.e-]+ \| [0-9.]+ ms \| [0-9]+ tok/s \| [0-9]+ MiB \| ETA ' err ||
  fail "step line: $(grep '^step' err | head -n 1)"
[ "$(grep -c '^step ' err)" -eq 30 ] || fail "not thirty step lines"
grep -q $'\r' err && fail "a carriage return without a terminal"
[ "$(wc -l <adapter/trainer_log.jsonl)" -eq 30 ] || fail "trainer_log.jsonl: not thirty rows"
expect 0 inspect adapter --json
is_json out "inspect --json"
grep -q '"tensor_count": 20' out || fail "inspect: not twenty tensors"

# The resolved configuration is a configuration: the same run again gives the same adapter.
expect 0 train adapter/train_config.yaml output_dir=again
cmp -s adapter/adapter_model.safetensors again/adapter_model.safetensors ||
  fail "train_config.yaml does not reproduce the run"
refused 2 "" train $keys

# merge: the merged model computes what base + adapter computes.
expect 0 merge base adapter merged --json
is_json out "merge --json"
change=$(grep -o '"largest_logit_change": [^,]*' out | cut -d' ' -f2)
awk "BEGIN { exit !($change < 1e-3) }" || fail "merging changed a logit by $change"
refused 2 "exists already" merge base adapter merged
expect 0 merge base adapter merged-bf16 --dtype bf16
holds "largest logit change on a probe text" out
expect 0 inspect merged-bf16
holds "BF16" out
expect 0 generate base --adapter adapter --prompt 'say 3' --max-new-tokens 8 --dtype f32 --ids
cp out with-adapter
expect 0 generate merged --prompt 'say 3' --max-new-tokens 8 --dtype f32 --ids
cmp -s with-adapter out || fail "merged and base + adapter generate differently"
grep -qE '^[0-9]+( [0-9]+)*$' out || fail "--ids: $(cat out)"

# export.
for format in peft residual gguf; do expect 0 export adapter "export-$format" --format "$format"; done
logits adapter.npy base --adapter adapter
logits peft.npy base --adapter export-peft
cmp -s adapter.npy peft.npy || fail "the PEFT export computes something else"
expect 0 inspect export-gguf --json
is_json out "inspect --json of a GGUF"
grep -q '"lora"' out || fail "the GGUF export does not say that it is a LoRA"
expect 0 inspect export-residual/adapter
refused 2 "exists already" export adapter export-peft --format peft
refused 2 "exists already" export adapter export-gguf --format gguf

# generate: prompts of a file, in any batch.
printf '{"prompt": "say 1"}\n\n{"prompt": "say two", "id": 7}\n{"prompt": "x"}\n' >prompts.jsonl
for batch in 1 3; do
  expect 0 generate base --adapter adapter --prompts prompts.jsonl --out "batch-$batch.jsonl" \
    --max-new-tokens 6 --batch-size $batch
  [ -s out ] && fail "generate --out wrote to standard output"
done
cmp -s batch-1.jsonl batch-3.jsonl || fail "completions depend on the batch size"
[ "$(wc -l <batch-1.jsonl)" -eq 3 ] || fail "not three completions"
grep -q '"id":7' batch-1.jsonl || fail "other members of a row are lost"
for i in 1 2 3; do sed -n ${i}p batch-1.jsonl >row && is_json row "completion $i"; done
expect 0 generate base --prompt abc --max-new-tokens 5 --temperature 1 --seed 7
cp out sampled
expect 0 generate base --prompt abc --max-new-tokens 5 --temperature 1 --seed 7
cmp -s sampled out || fail "the same seed gives another text"
expect 0 generate base --prompt abc --max-new-tokens 5 --num-beams 3
expect 0 generate base --prompt-ids '5 9 300' --max-new-tokens 3 --template plain --ids

# chat from a pipe: replies only, one a line that was said.
printf 'hello\n/reset\nhello\n/exit\nnever said\n' |
  "$milora" chat base --template plain --max-new-tokens 4 --quiet >out 2>err || fail "chat: $(cat err)"
[ -s err ] && fail "chat --quiet wrote to standard error: $(cat err)"
half=$(($(wc -c <out) / 2))
cmp -s <(head -c "$half" out) <(tail -c "$half" out) || fail "/reset does not forget"

# eval.
expect 0 eval --list
holds "gsm8k" out
expect 0 eval base --adapter adapter --task exact_match --data data.jsonl --template plain --limit 4 \
  --max-new-tokens 8 --out results.json --samples samples.jsonl --json
is_json out "eval --json"
is_json results.json "results.json"
[ "$(wc -l <samples.jsonl)" -eq 4 ] || fail "not four samples"
refused 2 "absent.jsonl" eval base --task exact_match --data absent.jsonl
finish
