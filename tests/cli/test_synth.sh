#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Made-up models (milora-synth-model): inspect, init and train --dry-run take them; shards agree with their
# index; nothing is overwritten; wrong options leave nothing behind.   usage: test_synth.sh MILORA
. "$(dirname "$0")/common.sh"
synth=$(dirname "$milora")/milora-synth-model
[ -x "$synth" ] || { echo "no milora-synth-model beside the program" >&2; exit 77; }

"$synth" --shape smollm2-135m --layers 1 --modules q,v small >out 2>err || fail "synth: $(cat err)"
grep -q '11 tensors in 1 file' out || fail "count: $(cat out)"
expect 0 inspect small
grep -q 'model.layers.0.mlp.down_proj.weight' out || fail "inspect shows no tensors"
expect 0 init small adapter --method milora --rank 4 --target-modules q_proj,v_proj
expect 0 train --dry-run model_name_or_path=small method=milora output_dir=run dataset=none.json

# 7.1 GB of holes in two shards.
"$synth" --shape llama3-70b --layers 2 --modules k big >out 2>err || fail "synth: $(cat err)"
[ -f big/model-00002-of-00002.safetensors ] || fail "no second shard"
[ "$(du -sk big | cut -f1)" -lt 200000 ] || fail "the holes take disk: $(du -sk big)"
expect 0 inspect big

cp small/model.safetensors before
"$synth" --shape smollm2-135m --layers 1 small >out 2>err && fail "an existing directory was accepted"
cmp -s before small/model.safetensors || fail "an existing directory was changed"
grep -q 'exists already' err || fail "message: $(cat err)"
before=$(ls)
for wrong in "--shape llama9 x" "--shape smollm2-135m" "--shape smollm2-135m --modules z x" \
  "--shape smollm2-135m --layers 0 x" "--shape smollm2-135m --seed -1 x" "x"; do
  rc=0
  # shellcheck disable=SC2086
  "$synth" $wrong >out 2>err || rc=$?
  [ "$rc" -eq 2 ] || fail "milora-synth-model $wrong: exit $rc"
done
[ "$before" = "$(ls)" ] || fail "something was left behind: $(ls)"

# The same seed, the same file; another seed, another.
"$synth" --shape smollm2-135m --layers 1 --modules q,v --threads 2 again >out 2>err
cmp -s before again/model.safetensors || fail "the same seed gave another model"
"$synth" --shape smollm2-135m --layers 1 --modules q,v --seed 2 other >out 2>err
cmp -s before other/model.safetensors && fail "another seed gave the same model"
finish
