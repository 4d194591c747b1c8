#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tokenize: text, files, standard input, decoding, vectors; llama.cpp's vectors where they are.
set -uo pipefail
. "$(dirname "$0")/common.sh"
model=$root/tests/text/data/small-bytes

expect 0 tokenize "$model" --text 'Hello world'
cp out plain
grep -qE '^[0-9]+( [0-9]+)*$' plain || fail "ids: $(cat plain)"
printf 'Hello world' >text
expect 0 tokenize "$model" --file text
cmp -s plain out || fail "--file and --text differ"
"$milora" tokenize "$model" <text >out 2>err || fail "standard input"
cmp -s plain out || fail "standard input and --text differ"
expect 0 tokenize "$model" --no-special --text 'Hello world'
cp out bare
expect 0 tokenize "$model" --no-special --text ''
[ "$(cat out)" = "" ] && [ "$(wc -l <out)" -eq 1 ] || fail "no text: not one empty line"

# Decoding gives the text back.
expect 0 tokenize "$model" --decode --text "$(cat bare)"
[ "$(cat out)" = "Hello world" ] || fail "decoded: $(cat out)"
expect 0 tokenize "$model" --decode --no-special --text "$(cat plain)"
[ "$(cat out)" = "Hello world" ] || fail "decoded without special tokens: $(cat out)"
printf 'a b\tc\n\n  d\xf0\x9f\x98\x80' >text
expect 0 tokenize "$model" --no-special --file text
cp out ids
expect 0 tokenize "$model" --decode --file ids
{ cat text; echo; } | cmp -s - out || fail "round trip of white space and emoji"

# Special tokens written in the text, and kept as text.
expect 0 tokenize "$model" --no-special --text '<|im_end|>'
[ "$(cat out)" = 3 ] || fail "special token: $(cat out)"
expect 0 tokenize "$model" --no-special --literal --text '<|im_end|>'
[ "$(cat out)" != 3 ] || fail "--literal parsed a special token"

# Vectors: separated by lines, empty texts and newlines included.
printf 'a\n__ggml_vocab_test__\n\n__ggml_vocab_test__\n\n\n__ggml_vocab_test__\nb c\n__ggml_vocab_test__\n' >vec
expect 0 tokenize "$model" --no-special --vectors --file vec
cp out got
{
  "$milora" tokenize "$model" --no-special --text 'a'
  echo
  "$milora" tokenize "$model" --no-special --text $'\n'
  "$milora" tokenize "$model" --no-special --text 'b c'
} >want 2>/dev/null
cmp -s want got || fail "vectors: $(diff want got)"
printf 'a\n__ggml_vocab_test__\nb c\n' >vec # the last text without a separator
expect 0 tokenize "$model" --no-special --vectors --file vec
[ "$(wc -l <out)" -eq 2 ] || fail "vectors without a last separator: $(cat out)"

refused 2 "is no token id" tokenize "$model" --decode --text '1 2 x'
refused 2 "99999" tokenize "$model" --decode --text '99999'
refused 2 "absent" tokenize "$model" --file absent
refused 2 "either --text or --file" tokenize "$model" --text a --file b
printf 'ab\xff' >bad
refused 2 "UTF-8" tokenize "$model" --file bad

data=${MILORA_DATA:-$root/../shared/data}/tokenizers
if [ -d "$data/gguf-vocab" ]; then
  check() { # MODEL VECTORS
    "$milora" tokenize "$1" --no-special --vectors --file "$data/gguf-vocab/$2.gguf.inp" >got 2>err ||
      fail "$2: $(cat err)"
    sed 's/^ //' "$data/gguf-vocab/$2.gguf.out" | cmp -s - got || fail "$2: vectors differ"
  }
  check "$data/gguf-vocab/ggml-vocab-gpt-2.gguf" ggml-vocab-gpt-2
  check "$data/gguf-vocab/ggml-vocab-llama-spm.gguf" ggml-vocab-llama-spm
  check "$data/llama3" ggml-vocab-llama-bpe
else
  echo "SKIP the vectors of llama.cpp: no \$MILORA_DATA and no ../shared/data" >&2
fi
finish
