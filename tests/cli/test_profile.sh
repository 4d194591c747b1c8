#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# train --profile: the table after the run, and the same as a file.
set -uo pipefail
. "$(dirname "$0")/common.sh"
tiny_model
keys="model_name_or_path=base method=milora r=2 max_steps=3 $common_keys"

expect 0 train $keys output_dir=plain
[ -e plain/profile.json ] && fail "a profile that nobody asked for"
expect 0 train $keys output_dir=seen --profile
[ "$(cat out)" = seen ] || fail "standard output is more than the result's path: $(cat out)"
for words in "profile of 2 steps" "product: weight, forward" "product: head" "AdamW" "outside operations" \
  "products of this machine reach"; do
  holds "$words" err
done
is_json seen/profile.json "profile.json"
holds '"share_of_product_rate"' seen/profile.json
cmp -s plain/adapter_model.safetensors seen/adapter_model.safetensors || fail "a profiled run has another result"
# It is one of the files that a run replaces.
expect 0 train $keys output_dir=seen overwrite_output_dir=true
[ -e seen/profile.json ] && fail "an earlier run's profile is left"
refused 2 "--dry-run" train $keys output_dir=other --profile --dry-run
finish
