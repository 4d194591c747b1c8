#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run that is killed, or asked to stop, and resumed ends with the bytes of an uninterrupted one.
set -uo pipefail
. "$(dirname "$0")/common.sh"
tiny_model
# Long enough to be caught in mid-run; a sanitizer's build is slow enough with fewer steps.
steps=400
grep -qa __asan_init "$milora" && steps=120
every=$((steps / 10))
keys="model_name_or_path=base method=milora r=4 max_steps=$steps save_steps=$every learning_rate=1e-3 lora_dropout=0.1
  logging_steps=1 lr_scheduler_type=cosine $common_keys"

expect 0 train $keys output_dir=whole
want=$(sha256sum <whole/adapter_model.safetensors)

# Wait until the run in the background has made a checkpoint; false if it ended before.
checkpoint_of() { # DIR PID
  for _ in $(seq 6000); do
    compgen -G "$1/checkpoint-*" >/dev/null && return 0
    kill -0 "$2" 2>/dev/null || return 1
    sleep 0.005
  done
  return 1
}

"$milora" train $keys output_dir=killed >out 2>err &
pid=$!
checkpoint_of killed $pid || fail "no checkpoint before the end: $(tail -n 2 err)"
kill -9 $pid
wait $pid 2>/dev/null
[ -e killed/checkpoint-$steps ] && fail "the run ended before it could be killed"
expect 0 train $keys output_dir=killed --resume
holds "resumed after step" err
[ "$(sha256sum <killed/adapter_model.safetensors)" = "$want" ] || fail "after kill -9: the adapter differs"
cmp -s <(grep -o '"loss": *[^,]*' whole/trainer_log.jsonl) <(grep -o '"loss": *[^,]*' killed/trainer_log.jsonl) ||
  fail "after kill -9: the logged losses differ"
compgen -G 'killed/tmp-*' >/dev/null && fail "a half-written checkpoint is left"

"$milora" train $keys output_dir=stopped >out 2>err &
pid=$!
checkpoint_of stopped $pid || fail "no checkpoint before the end: $(tail -n 2 err)"
kill -INT $pid
rc=0
wait $pid || rc=$?
[ "$rc" -eq 1 ] || fail "SIGINT: exit $rc"
tail -n 1 err | grep -q '^milora train: .*resume' || fail "SIGINT: no word about resuming: $(tail -n 1 err)"
expect 0 train --resume $keys output_dir=stopped
[ "$(sha256sum <stopped/adapter_model.safetensors)" = "$want" ] || fail "after SIGINT: the adapter differs"

# From a checkpoint by name.
expect 0 train $keys output_dir=named --resume=whole/checkpoint-$((steps - every))
[ "$(sha256sum <named/adapter_model.safetensors)" = "$want" ] || fail "from a named checkpoint: the adapter differs"
refused 2 "" train $keys output_dir=other --resume absent

# By the configuration that the run resolved: what was left open and chosen there is the same.
for method in adalora lora_plus; do
  expect 0 train $keys method=$method max_steps=8 save_steps=4 output_dir=$method
  want=$(sha256sum <$method/adapter_model.safetensors)
  rm -r $method/checkpoint-8
  expect 0 train $method/train_config.yaml --resume
  [ "$(sha256sum <$method/adapter_model.safetensors)" = "$want" ] || fail "$method by train_config.yaml: differs"
done
finish
