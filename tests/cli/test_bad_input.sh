#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bad input: one clear line, exit 2 (1 where the system fails), and nothing left behind.
set -uo pipefail
. "$(dirname "$0")/common.sh"
tiny_model
expect 0 init base adapter --rank 4
expect 0 export adapter lora.gguf --format gguf
keys="method=milora r=4 output_dir=never max_steps=2 $common_keys"
weights=base/model.safetensors
size=$(wc -c <$weights)
# A copy of the base under a name, to be damaged.
damaged() {
  rm -rf "$1"
  mkdir "$1"
  cp base/*.json base/*.safetensors "$1/"
}

# Safetensors: cut short, and lying.
for cut in 0 4 8 100 $((size - 1)); do
  damaged cut
  head -c "$cut" $weights >cut/model.safetensors
  refused 2 "cut/model.safetensors" inspect cut
  refused 2 "cut/model.safetensors" init cut never
  refused 2 "cut/model.safetensors" generate cut --prompt x
done
damaged lie
printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of=lie/model.safetensors conv=notrunc 2>/dev/null
refused 2 "lie/model.safetensors" inspect lie
damaged broken
printf 'X' | dd of=broken/model.safetensors bs=1 seek=9 conv=notrunc 2>/dev/null
refused 2 "broken/model.safetensors" merge broken adapter never
damaged other-shape
sed 's/"intermediate_size": *64/"intermediate_size": 48/' base/config.json >other-shape/config.json
refused 2 "" init other-shape never
damaged family
sed 's/"model_type": *"llama"/"model_type": "mamba"/' base/config.json >family/config.json
refused 2 "mamba" init family never
damaged json
printf '{"model_type": "llama", ' >json/config.json
refused 2 "json/config.json" inspect json
refused 2 "json/config.json" init json never
damaged token
printf '{"model": ' >token/tokenizer.json
refused 2 "token/tokenizer.json" tokenize token --text a
refused 2 "token/tokenizer.json" generate token --prompt a
refused 2 "token/tokenizer.json" validate model_name_or_path=token $keys
damaged nan # the last four bytes of the file are a weight
printf '\x00\x00\xc0\x7f' | dd of=nan/model.safetensors bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
refused 2 "" generate nan --prompt a

# GGUF: cut short at many places, and a huge count.
gguf=$(wc -c <lora.gguf)
for cut in 0 3 7 20 200 $((gguf / 2)) $((gguf - 1)); do
  head -c "$cut" lora.gguf >cut.gguf
  refused 2 "cut.gguf" inspect cut.gguf
done
cp lora.gguf huge.gguf
printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of=huge.gguf bs=1 seek=8 conv=notrunc 2>/dev/null
refused 2 "huge.gguf" inspect huge.gguf
refused 2 "huge.gguf" tokenize huge.gguf --text a
refused 2 "lora.gguf" generate lora.gguf --prompt a

# Adapters: of another base, of another shape, incomplete.
run train model_name_or_path=tiny method=full from_scratch=true output_dir=base2 max_steps=1 save_dtype=f32 seed=7 \
  $common_keys
refused 2 "" generate base2 --adapter adapter --prompt a
refused 2 "" merge base2 adapter never
mkdir no-weights
cp adapter/*.json no-weights/
refused 2 "no-weights" generate base --adapter no-weights --prompt a
refused 2 "no-weights" inspect no-weights
cp -r adapter half
head -c 3000 adapter/adapter_model.safetensors >half/adapter_model.safetensors
refused 2 "half" merge base half never
cp -r adapter dora
sed 's/"use_dora": *false/"use_dora": true/' adapter/adapter_config.json >dora/adapter_config.json
rm -f dora/milora.json
refused 2 "dora" generate base --adapter dora --prompt a

# Configurations.
printf 'model_name_or_path: base\nmethod: [milora\n' >broken.yaml
refused 2 "broken.yaml" train broken.yaml
printf 'model_name_or_path: base\nlearning_rat: 1e-4\n' >key.yaml
refused 2 "learning_rate" validate key.yaml
refused 2 "key.yaml" train key.yaml
refused 2 "target_modules" validate model_name_or_path=base $keys 'target_modules=[q_prj]'
refused 2 "" train model_name_or_path=base $keys learning_rate=fast
refused 2 "" train model_name_or_path=base $keys r=33
refused 2 "absent.yaml" train absent.yaml
refused 2 "" train model_name_or_path=base method=milora

# Data.
printf '{"instruction": "a", "output": "b"}\n{"instruction": "a", "outp\n' >cut.jsonl
refused 2 "cut.jsonl" validate model_name_or_path=base $keys dataset=cut.jsonl
printf '{"instruction": "a", "output": "b\xff"}\n' >utf8.jsonl
refused 2 "utf8.jsonl" validate model_name_or_path=base $keys dataset=utf8.jsonl
printf '{"question": 1}\n' >shape.jsonl
refused 2 "shape.jsonl" validate model_name_or_path=base $keys dataset=shape.jsonl
: >empty.jsonl
refused 2 "empty.jsonl" train model_name_or_path=base $keys dataset=empty.jsonl
refused 2 "absent.jsonl" train model_name_or_path=base $keys dataset=absent.jsonl
printf '{"prompt": 3}\n' >prompts.jsonl
refused 2 "prompts.jsonl: line 1" generate base --prompts prompts.jsonl
printf 'no json\n' >prompts.jsonl
refused 2 "prompts.jsonl: line 1" generate base --prompts prompts.jsonl

# Ids and prompts.
refused 2 "512" logits base --ids '1 512' --out never.npy
refused 2 "no token id" logits base --ids '1 -2' --out never.npy
refused 2 "" generate base --prompt-ids '1 9999'
refused 2 "" generate base --prompt a --template chatmll

# Missing files, and places where nothing can be written.
for verb in inspect tokenize; do refused 2 "absent" $verb absent; done
refused 2 "absent" init absent never
refused 2 "absent" merge base absent never
refused 2 "absent" export absent never --format peft
: >file
refused 2 "file/out" init base file/out
refused 2 "file/out" merge base adapter file/out
refused 2 "file/out" export adapter file/out --format residual
refused 2 "file/out" export adapter file/out --format gguf
refused 2 "file/out" logits base --ids 1 --out file/out
refused 2 "file" train model_name_or_path=base $keys output_dir=file/out
refused 2 "no-dir/x.yaml" recipes cp "$(basename "$(ls "$root"/recipes/*.yaml | head -n 1)" .yaml)" no-dir/x.yaml
if [ "$(id -u)" -ne 0 ]; then
  mkdir -m 555 locked
  refused 2 "locked" init base locked/out
  refused 2 "locked" merge base adapter locked/out
fi

# A disk that is full: a limit on the size of files stands in for it.
ulimit -f 4
refused 1 "adapter_model.safetensors" init base full --rank 4 --json
refused 1 "" merge base adapter full
refused 1 "" export adapter full --format residual
refused 1 "" export adapter full --format gguf
refused 1 "full.npy" logits base --ids '1 2 3' --out full.npy
finish
