#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# compare: a small plan for real; killed and stopped at several moments it ends with the same results; what --dry-run
# needs; what is refused.  tests/compare does the rest with a program that pretends.
set -uo pipefail
. "$(dirname "$0")/common.sh"
tiny_model
head -n 12 data.jsonl >test.jsonl
for i in $(seq 40); do echo "line $i says number $((i * 7 % 10))"; done >text.txt
steps=60
cat >recipe.yaml <<YAML
model_name_or_path: base
dataset: data.jsonl
template: plain
per_device_train_batch_size: 8
warmup_steps: 0
max_length: 128
compute_dtype: f32
r: 4
max_steps: $steps
save_steps: 5
learning_rate: 1e-2
report_to: [jsonl]
YAML
cat >plan.yaml <<'YAML'
title: Two methods
output_dir: whole
recipe: recipe.yaml
methods: [lora, {name: MiLoRA, method: milora, learning_rate: 5e-3}]
seeds: [1, 2]
tasks:
  - {task: exact_match, data: test.jsonl, max_new_tokens: 8, template: plain}
  - {name: text, task: perplexity, data: text.txt, max_length: 32}
forgetting: {data: text.txt, max_length: 32, max_tokens: 100}
interference: {rank: 2, layers: "0", target_modules: [q_proj, up_proj]}
subspace: {rank: 2}
YAML

# The plan before anything is run: one config.json, no data, nothing written.
mkdir bare && cp base/config.json bare/
mv data.jsonl kept.jsonl
expect 0 compare plan.yaml --dry-run train.model_name_or_path=bare
holds "4 cells in 2 groups" out
holds "train, eval-exact_match, eval-text, forgetting, interference, subspace" out
grep -qE "^milora/seed-2 +$steps +[0-9,]+ +method=milora learning_rate=0.005 seed=2" out || fail "cells: $(cat out)"
holds "predicted peak of the resident set" out
expect 0 compare plan.yaml --dry-run --json train.model_name_or_path=bare seeds=[7]
is_json out "compare --dry-run --json"
holds '"cell": "lora/seed-7"' out
refused 2 "dataset: there is no data.jsonl" compare plan.yaml
mv kept.jsonl data.jsonl
[ -e whole ] && fail "something was written"

# For real.
expect 0 compare plan.yaml
for f in results.json results.md report.html plan.yaml base/eval-text.json cells/lora/seed-1/samples-exact_match.jsonl \
  cells/milora/seed-2/subspace.json cells/milora/seed-2/config.yaml cells/milora/seed-1/cell.json; do
  [ -s "whole/$f" ] || fail "no whole/$f"
done
grep -qE '^milora +[0-9]' out || fail "no row of milora: $(cat out)"
tail -n 1 out | grep -qx "whole/report.html" || fail "the paths are not last: $(tail -n 3 out)"
holds "[5/5] milora/seed-2 | subspace" err
compgen -G 'whole/cells/*/*/train/checkpoint-*' >/dev/null && fail "checkpoints are left"
is_json whole/results.json results.json
cp out first.txt
expect 0 compare plan.yaml
cmp -s out first.txt || fail "a second call says something else: $(diff out first.txt)"
holds "as it was left before" err
expect 0 compare plan.yaml --json
is_json out "compare --json"
rm whole/results.md whole/report.html
cp whole/results.json before.json
expect 0 compare plan.yaml --report-only
cmp -s whole/results.json before.json || fail "--report-only gives other results"
[ -s whole/report.html ] && [ -s whole/results.md ] || fail "--report-only: no pages"
# A cell is what the verbs do by hand with its configuration.
expect 0 train whole/cells/milora/seed-2/config.yaml output_dir=hand
cmp -s hand/adapter_model.safetensors whole/cells/milora/seed-2/train/adapter_model.safetensors ||
  fail "training by hand gives another adapter"

# What two runs may differ in is what takes time.
same() { # FOLDER WHY
  command -v python3 >/dev/null || return 0
  python3 - "$1/results.json" whole/results.json <<'PY' || fail "$2: the results differ"
import json, sys
def timeless(o):
    if isinstance(o, list):
        return [timeless(x) for x in o]
    if not isinstance(o, dict):
        return o
    return {k: timeless(v) for k, v in o.items() if not k.endswith("seconds") and k != "peak_rss_bytes"}
a, b = (timeless(json.load(open(f))) for f in sys.argv[1:3])
def places(x, y, at=""):
    if type(x) is dict and type(y) is dict and x.keys() == y.keys():
        for k in x: places(x[k], y[k], at + "/" + k)
    elif type(x) is list and type(y) is list and len(x) == len(y):
        for i in range(len(x)): places(x[i], y[i], at + "/" + str(i))
    elif x != y: print(at, x, y, file=sys.stderr)
places(a, b)
sys.exit(a != b)
PY
}
# there PATTERN PID: wait until such a file is there; false if the process ended before.
there() {
  for _ in $(seq 6000); do
    compgen -G "$1" >/dev/null && return 0
    kill -0 "$2" 2>/dev/null || return 1
    sleep 0.003
  done
  return 1
}

# Killed while training, while grading the base, while grading a cell, between two steps.
for at in 'base/samples-*' 'cells/lora/seed-1/train/checkpoint-*' 'cells/lora/seed-1/samples-exact*' \
  'cells/milora/seed-1/train/adapter_model.safetensors' 'cells/lora/seed-2/forgetting.json.part' \
  'cells/milora/seed-2/train/checkpoint-2?'; do
  "$milora" compare plan.yaml output_dir=killed >out 2>err &
  pid=$!
  there "killed/$at" $pid || fail "never there: $at: $(tail -n 2 err)"
  kill -9 $pid 2>/dev/null
  wait $pid 2>/dev/null
done
expect 0 compare plan.yaml output_dir=killed
same killed "killed and continued"
cmp -s killed/cells/milora/seed-2/train/adapter_model.safetensors \
  whole/cells/milora/seed-2/train/adapter_model.safetensors || fail "killed and continued: another adapter"

# Asked to stop: the step saves, nothing has failed, the same command goes on.
"$milora" compare plan.yaml output_dir=stopped >out 2>err &
pid=$!
there 'stopped/cells/lora/seed-1/train/checkpoint-*' $pid
kill -INT $pid
rc=0
wait $pid || rc=$?
[ "$rc" -eq 1 ] || fail "SIGINT: exit $rc"
tail -n 1 err | grep -q '^milora compare: stopped on request; the same command goes on' || fail "SIGINT: $(tail -n 1 err)"
[ -e stopped/cells/lora/seed-1/cell.json ] && fail "SIGINT: the cell counts as done or failed"
expect 0 compare plan.yaml output_dir=stopped
same stopped "stopped and continued"

# Cells that fail: told, listed, exit 1; each is tried once, the others' parts are there.
: >empty.txt
run compare plan.yaml output_dir=failing forgetting.data=empty.txt seeds=[1]
[ "$rc" -eq 1 ] || fail "failed cells: exit $rc"
holds "warning: lora/seed-1 | forgetting failed: exit code 2: milora analyze: " err
holds "failed: milora/seed-1 | forgetting | exit code 2" out
tail -n 1 err | grep -q "2 of 2 failed, 0 are done; --retry-failed" || fail "the last line: $(tail -n 1 err)"
[ -s failing/cells/milora/seed-1/eval-text.json ] || fail "the second cell was not run"
run compare plan.yaml output_dir=failing forgetting.data=empty.txt seeds=[1]
[ "$rc" -eq 1 ] || fail "failed cells, again: exit $rc"
grep -q "forgetting failed" err && fail "a failed cell was tried again unasked"

# What was wrong in an analysis alone is corrected without training anew.
expect 0 compare plan.yaml output_dir=failing seeds=[1] --retry-failed
[ "$(grep -c "^\$.* train " failing/cells/milora/seed-1/log.txt)" -eq 1 ] || fail "trained twice"

# Refused, with one line.
refused 2 "the command line: forgetting.max_length: is 257; the model has " compare plan.yaml output_dir=new forgetting.max_length=257
sed 's/seeds: .*/seeds: [1, 3]/' plan.yaml >other.yaml
refused 2 "another plan made this folder ('seeds' differs)" compare other.yaml
refused 2 "('train.r' differs)" compare plan.yaml train.r=2
sed 's/max_new_tokens/limt/' plan.yaml >typo.yaml
refused 2 "typo.yaml:7: unknown key 'tasks.0.limt'" compare typo.yaml
refused 2 "absent.yaml" compare absent.yaml
refused 2 "PLAN.yaml is missing" compare
refused 2 "milora compare: train.r: " compare plan.yaml "train.r=[oops"
refused 2 "the command line: unknown key 'seds'" compare plan.yaml seds=3
refused 2 "there is no comparison yet" compare plan.yaml --report-only output_dir=nowhere
refused 2 "goes with --json alone" compare plan.yaml --dry-run --only lora
refused 2 "--only 'xyz'" compare plan.yaml --only xyz output_dir=xyz
finish
