#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# init as it is lived with: killed, stopped, given a broken or bounded cache, piped, asked for nonsense.
# The model is made up (milora-synth-model): SmolLM2's shapes, 4 layers.      usage: test_init.sh MILORA
set -uo pipefail
. "$(dirname "$0")/common.sh"
synth=$(dirname "$milora")/milora-synth-model
[ -x "$synth" ] || { echo "no milora-synth-model beside the program" >&2; exit 77; }
"$synth" --shape smollm2-135m --layers 4 base >out 2>err || { echo "no model: $(cat err)" >&2; exit 1; }
modules=20
opts="--method milora --rank 8"

# Wait for entries in a directory while the run in the background lives.
entries() { compgen -G "$1/*.safetensors" | grep -cv '/tmp-'; }
wait_for_entries() { # DIR PID
  for _ in $(seq 6000); do
    [ "$(entries "$1")" -ge 2 ] && return 0
    kill -0 "$2" 2>/dev/null || return 1
    sleep 0.002
  done
  return 1
}
# Start a run and send it a signal when it has kept something; it must not have ended before.
interrupt() { # SIGNAL DIR ARGUMENTS...
  local signal=$1 dir=$2 pid
  shift 2
  "$milora" "$@" >out 2>err &
  pid=$!
  wait_for_entries "$dir" $pid || fail "$*: ended before it could be stopped: $(tail -n 2 err)"
  kill "-$signal" $pid
  rc=0
  wait $pid 2>/dev/null || rc=$?
}
from_cache() { grep -o '[0-9]* from the cache' "$1" | cut -d' ' -f1; }

# An uninterrupted run: the table, the totals, nothing left beside the adapter.
expect 0 init base whole $opts
[ "$(grep -c '^model.layers' out)" -eq $modules ] || fail "not $modules rows"
holds "$modules modules, method milora, rank 8" out
holds "served by: " out
holds "peak memory: " out
grep -q 'from the cache' out && fail "a first run was served by a cache"
LC_ALL=C grep -q '[^[:print:][:space:]]' out err && fail "control characters in a pipe"
grep -q $'\r' out err && fail "a carriage return in a pipe"
ls -d whole.partial >/dev/null 2>&1 && fail "a short run left whole.partial"
grep '^model.layers' out | awk '{print $1}' | sort >rows-text

# kill -9 at any time: what was kept is used, and the adapter has the bytes of the uninterrupted run.
interrupt KILL killed.partial init base killed $opts --keep-after 0
[ -e killed ] && fail "a killed run left an adapter"
: >killed.partial/mine # not ours: it stays
cp -r killed.partial more.partial
expect 0 init base killed $opts --keep-after 0
[ "$(from_cache out)" -ge 2 ] || fail "after kill -9 nothing came from killed.partial: $(tail -n 4 out)"
[ "$(from_cache out)" -lt $modules ] || fail "after kill -9 everything was there already"
diff -r whole killed >/dev/null || fail "after kill -9 the adapter differs"
[ "$(ls killed.partial)" = mine ] || fail "killed.partial: $(ls killed.partial)"
# A broken part is told, made anew, and changes nothing.
for f in more.partial/*.safetensors; do printf x | dd of="$f" bs=1 seek=9000 conv=notrunc status=none; done
expect 0 init base more $opts --keep-after 0
holds "warning: an entry of the cache of decompositions is not used" err
diff -r whole more >/dev/null || fail "a broken part changed the adapter"

# SIGINT and SIGTERM: one line says how to go on.
for signal in INT TERM; do
  interrupt $signal "stop-$signal.partial" init base "stop-$signal" $opts --keep-after 0
  [ "$rc" -eq 1 ] || fail "SIG$signal: exit $rc"
  [ "$(grep -c . err)" -eq 1 ] || fail "SIG$signal: not one line: $(cat err)"
  grep -qE "^milora init: stopped on request after [0-9]+ of $modules modules; .*stop-$signal.partial, the same command" err ||
    fail "SIG$signal: $(cat err)"
  expect 0 init base "stop-$signal" $opts --keep-after 0
  diff -r whole "stop-$signal" >/dev/null || fail "after SIG$signal the adapter differs"
  [ -e "stop-$signal.partial" ] && fail "stop-$signal.partial is left"
done

# A cache of the user's: ranks share, ends do not, the limit holds, methods without weights need none.
interrupt KILL cache init base shared $opts --svd-cache cache
expect 0 init base shared $opts --svd-cache cache
[ "$(from_cache out)" -ge 2 ] || fail "after kill -9 nothing came from the cache"
diff -r whole shared >/dev/null || fail "the adapter from the cache differs"
expect 0 init base rank-5 --method milora --rank 5 --svd-cache cache --json
is_json out "init --json"
holds "\"cached\": $modules" out
holds "\"cache\": $modules" out
grep -o '"module": "[^"]*"' out | cut -d'"' -f4 >rows-json
[ "$(wc -l <rows-json)" -eq $modules ] || fail "--json: not $modules modules"
diff <(sort rows-json) rows-text >/dev/null || fail "--json has other modules than the table"
grep -o 'layers\.[0-9]*' rows-json | sort -c -t. -k2n || fail "--json: not in canonical order"
expect 0 init base pissa-5 --method pissa --rank 5 --svd-cache cache
grep -q 'from the cache' out && fail "the top was served by the bottom"
expect 0 init base small-cache --rank 9 --svd-cache cache --svd-cache-limit 0.001
[ "$(du -sb --apparent-size cache | cut -f1)" -lt 1100000 ] || fail "the limit: $(du -sb cache)"
[ "$(grep -c '^warning: not kept' err)" -eq 1 ] || fail "no warning about the limit: $(cat err)"
expect 0 init base lora --method lora --svd-cache unused --keep-after 0
[ -e unused ] && fail "lora made a cache"

# A cache that cannot be: a file is refused at once, a place that cannot be written is a warning.
refused 2 "not a directory" init base refused --svd-cache base/config.json
expect 0 init base nowhere $opts --svd-cache base/config.json/x
[ "$(grep -c '^warning: not kept' err)" -eq 1 ] || fail "no warning about a cache below a file: $(cat err)"
diff -r whole nowhere >/dev/null || fail "the adapter without a writable cache differs"

# A file where OUT.partial would be: a warning, as nobody asked for that directory by name.
echo mine >taken.partial
expect 0 init base taken $opts --keep-after 0
holds "warning: taken.partial: is not a directory" err
[ "$(cat taken.partial)" = mine ] || fail "taken.partial was changed"

# Which modules and ranks, and the flags: PEFT's meaning, errors with the nearest name.
expect 0 init base chosen --method pissa --rank 8 --layers 0,2-3 --exclude-modules v_proj,layers.0.mlp.up_proj \
  --rank-pattern 'layers.3.*=4,q_proj=6' --alpha-pattern down_proj=2 --use-rslora
[ "$(grep -c '^model.layers' out)" -eq 11 ] || fail "chosen: $(grep -c '^model.layers' out) modules, not 11"
grep -q 'layers.1\.\|v_proj\|layers.0.mlp.up_proj' out && fail "chosen: modules that were excluded"
for row in 'layers.3.self_attn.q_proj 4' 'layers.2.self_attn.q_proj 6' 'layers.2.self_attn.k_proj 8'; do
  awk -v m="model.${row% *}" -v r="${row#* }" '$1 == m && $5 == r { ok = 1 } END { exit !ok }' out || fail "chosen: not $row"
done
refused 2 "did you mean 'q_proj'?" init base refused --rank-pattern qproj=3
refused 2 "not adapted" init base refused --alpha-pattern o_proj=3
refused 2 "layers 0 to 3" init base refused --layers 4
refused 2 "no range of layers" init base refused --layers 3-1
refused 2 "a number is expected" init base refused --rank-pattern q_proj=x
refused 2 "no pattern=number" init base refused --rank-pattern q_proj
refused 2 "does not go with method 'mica'" init base refused --method mica --use-dora

# Every method in one table; with a directory, every adapter in it, the bytes of a run of its own.
expect 0 init base --method all --rank 8 --layers 1
for method in milora pissa mid random lora rslora lora_plus dora olora mica; do
  grep -q "^$method  *[0-9]" out || fail "init --method all has no row for $method"
done
awk '$1 == "pissa" { exit !($8 != "-" && $9 == "1.0000" && $10 == "0.0000") }' out || fail "pissa is not at the top"
awk '$1 == "mica" { exit !($4 == "0.00000" && $10 == "1.0000" && $11 == "-") }' out || fail "mica is not at the bottom"
holds "it needs data" out
expect 0 init base every --method all --rank 8 --layers 1 --json --svd-cache every-cache
is_json out "init --method all --json"
expect 0 init base alone --method olora --rank 8 --layers 1
diff -r alone every/olora >/dev/null || fail "every/olora is not what --method olora makes"
expect 0 inspect every/mica
# What nobody gave is recorded as the method chooses it, not as zeros.
holds '"orth_reg_weight": 0.5' every/adalora/milora.json
holds '"tinit": -1' every/adalora/milora.json
refused 2 "exists already" init base every --method all --rank 8 --layers 1
expect 0 init base --method all --rank 8 --layers 1 --use-dora
holds "does not go with method 'mica'" out
# Too large a rank for some methods is their reason, for all of them an error that leaves no directory.
expect 0 init base some --method all --rank 150 --layers 1 --target-modules k_proj
holds "adalora: init_r is 225" out
[ -d some/milora ] && [ ! -e some/adalora ] || fail "some: $(ls some)"
refused 2 "at most" init base refused --method all --rank 100000

refused 2 "--svd-cache-limit" init base refused --svd-cache-limit 0
refused 2 "--keep-after" init base refused --keep-after -1
refused 2 "at most" init base refused --rank 100000
refused 2 "exists already" init base whole $opts
refused 2 "not a directory" init base base/config.json/x
finish
