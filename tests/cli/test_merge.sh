#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Adapters of several kinds merged together with weights, exported, inspected, trained further.
set -uo pipefail
. "$(dirname "$0")/common.sh"
tiny_model

train() { # OUT KEYS...
  local out=$1
  shift
  run train model_name_or_path=base output_dir="$out" r=4 max_steps=6 learning_rate=1e-2 $common_keys "$@"
  [ "$rc" -eq 0 ] || fail "training $out: $(cat err)"
}
train first method=milora
train second method=dora modules_to_save=[embed_tokens]
train third method=adalora tinit=1 tfinal=2 target_r=3 lora_ga_batches=2
holds "lora_ga_batches does nothing with method adalora" err
grep -q "target_r does nothing" err && fail "target_r is adalora's"

# One adapter: compared with itself attached; several, or a weight: with the model alone.
expect 0 merge base first one
grep -q "tokens: " out || fail "merge: $(cat out)"
expect 0 merge base first second third all --weights 1,0.5,-1
holds "against the model alone" out
expect 0 merge base second half --weights=0.5 --json
is_json out "merge --json"
holds '"against_base": true' out
expect 0 inspect all --no-tensors
holds "tie_word_embeddings  false" <(tr -s ' ' <out | sed 's/tie_word_embeddings false/tie_word_embeddings  false/')
# The order does not matter, but for the last bit of a sum.
expect 0 merge base third first second again --weights -1,1,.5 --no-probe
ids='5 9 300 17 42'
expect 0 logits all --ids "$ids" --dtype f32 --out all.npy
expect 0 logits again --ids "$ids" --dtype f32 --out again.npy
if command -v python3 >/dev/null; then
  python3 - <<'PY' || fail "another order of adapters is another model"
import array
def read(name):
    a = array.array("f")
    a.frombytes(open(name, "rb").read()[128:])
    return a
a, b = read("all.npy"), read("again.npy")
assert len(a) == 5 * 512 and max(abs(x - y) for x, y in zip(a, b)) < 1e-4
PY
fi
refused 2 "OUT is missing" merge base first
refused 2 "3 numbers separated by commas are needed" merge base first second third never --weights 1,x,2
refused 2 "one an adapter" merge base first second never --weights 1
refused 2 "one an adapter" merge base first never --weights 1,2
refused 2 "absent" merge base first absent never
refused 1 "does not fit F32" merge base first never --weights 1e308
refused 1 "does not fit BF16" merge base first never --weights 1e308 --dtype bf16

# Exports, and what they refuse.
expect 0 export third plain --format lora
expect 0 inspect plain --no-tensors
holds "lora (PEFT's own)" out
refused 2 "merge it" export second never --format lora
refused 2 "export it as peft" export second never --format residual --model base
refused 2 "merge" export second never.gguf --format gguf --model base

# inspect tells what an adapter is.
expect 0 inspect second --no-tensors
holds "model.embed_tokens.weight" out
holds "DoRA" out
expect 0 inspect third --json
is_json out "inspect --json"
holds '"method": "adalora"' out
holds '"trained_parameters": ' out

# Training goes on from an adapter, ours or another's.
train more adapter_name_or_path=first
expect 0 inspect more --no-tensors
holds "milora" out
expect 0 train model_name_or_path=base output_dir=never adapter_name_or_path=plain --dry-run $common_keys
run train model_name_or_path=base output_dir=never r=8 adapter_name_or_path=first $common_keys
[ "$rc" -eq 2 ] || fail "another rank than the adapter's: exit $rc"
holds "r is 8, but the adapter of adapter_name_or_path (first) has 4" err
finish
