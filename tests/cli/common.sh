# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts of this folder: a work folder that is removed, checks that count, a tiny model.
# usage in a script:  . "$(dirname "$0")/common.sh"     ($1 is the program under test)
milora=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/milora-cli-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
failures=0
# One thread: these models are tiny, and other tests run at the same time.
export OMP_NUM_THREADS=1

fail() {
  echo "FAIL: $*" >&2
  failures=$((failures + 1))
}
# Run the program: its output in $work/out, its messages in $work/err, its exit code in $rc.
run() {
  rc=0
  "$milora" "$@" >"$work/out" 2>"$work/err" </dev/null || rc=$?
}
# expect CODE ARGUMENTS...
expect() {
  local want=$1
  shift
  run "$@"
  [ "$rc" -eq "$want" ] || fail "milora $*: exit $rc, want $want: $(tail -n 2 "$work/err")"
}
# refused CODE TEXT ARGUMENTS...: that exit code, exactly one line on standard error beginning with
# "milora VERB: " and holding TEXT, nothing on standard output, and no new file.
refused() {
  local want=$1 text=$2 before after
  shift 2
  before=$(find . -not -path ./out -not -path ./err | sort)
  run "$1" --quiet "${@:2}"
  after=$(find . -not -path ./out -not -path ./err | sort)
  [ "$rc" -eq "$want" ] || fail "milora $*: exit $rc, want $want: $(cat "$work/err")"
  [ "$(wc -l <"$work/err")" -eq 1 ] || fail "milora $*: not one line: $(cat "$work/err")"
  grep -q "^milora $1: " "$work/err" || fail "milora $*: no 'milora $1: ': $(cat "$work/err")"
  grep -qF -- "$text" "$work/err" || fail "milora $*: '$text' is not in: $(cat "$work/err")"
  [ -s "$work/out" ] && fail "milora $*: wrote to standard output: $(head -c 200 "$work/out")"
  [ "$before" = "$after" ] || fail "milora $*: left files: $(diff <(echo "$before") <(echo "$after"))"
}
holds() { grep -qF -- "$1" "$2" || fail "'$1' is not in $2: $(head -c 400 "$2")"; }
finish() {
  [ "$failures" -eq 0 ] && exit 0
  echo "$failures checks failed" >&2
  exit 1
}
is_json() {
  command -v python3 >/dev/null || return 0
  python3 -m json.tool "$1" >/dev/null 2>&1 || fail "$2: not JSON: $(head -c 300 "$1")"
}

# $work/data.jsonl: 48 alpaca rows.  $work/base: a model of 35 thousand parameters, trained from
# scratch for five steps by the program itself.
tiny_data() {
  for i in $(seq 48); do
    echo "{\"instruction\": \"say $i\", \"input\": \"\", \"output\": \"number $((i * 7 % 10))\"}"
  done >data.jsonl
}
tiny_config() {
  mkdir -p "$1"
  cp "$root/tests/text/data/small-bytes/"tokenizer*.json "$1/"
  cat >"$1/config.json" <<'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
 "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
 "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 0,
 "eos_token_id": 1, "initializer_range": 0.2}
JSON
}
common_keys="dataset=data.jsonl template=plain per_device_train_batch_size=8 warmup_steps=0
  max_length=128 compute_dtype=f32 threads=1 report_to=[jsonl]"
tiny_model() {
  tiny_data
  tiny_config tiny
  run train model_name_or_path=tiny method=full from_scratch=true output_dir=base max_steps=5 \
    learning_rate=3e-3 save_dtype=f32 seed="${1:-42}" $common_keys
  [ "$rc" -eq 0 ] || { echo "no tiny model: $(cat err)" >&2; exit 1; }
}
