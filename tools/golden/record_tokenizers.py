#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Record what Hugging Face tokenizers and SentencePiece make of a list of difficult texts.

usage: record_tokenizers.py OUT --llama2 DIR --llama3 DIR --gpt2 VOCAB.gguf --smollm2 MODEL.gguf [--seeds DIR]

Needs tokenizers, sentencepiece and gguf; checks SmolLM2 and GPT-2 against llama.cpp too where
llama-cpp-python is installed.  Writes to OUT (tests/text/data):

  texts.json          the texts, one list; made from a fixed seed
  <name>.json         {"ids": [[...], ...], "raw": {"i": [...]}, "decoded": {"i": "..."}}
                      ids: encode(text), special tokens added and parsed; raw: the same without parsing
                      special tokens, and decoded: decode(ids, skip special), each where it differs (from
                      ids, from the text)
  small-bytes/, small-sp/, small-meta/, small-model/   tiny trained tokenizers, one a directory
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import tempfile
import unicodedata

import sentencepiece
from gguf import GGUFReader, GGUFWriter
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPACE = "\u2581"

FIXED = [
    "", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "\n \n", "Hello", " Hello", "  Hello world  ",
    "Hello world", "Hello, y'all! How are you \U0001f601 ?", "'S 'T 'RE 'Ve I'LL we'd 's't", "\u017f'\u017f it'\u017f",
    "3", "33", "333", "3333", "33333", "12345678901234567890", "a1b22c333d4444", "1,234.5e-6", "\u00bd\u00b2\u0663\u0664\u0665",
    "x" * 200, " " * 100, " " * 99 + "x", "\n" * 33, "\t \t \t x", "ab" * 60, "=" * 65, "a" + " " * 31 + "b",
    "!!!???...", "---===---", "<|im_start|>user\nHi<|im_end|>\n", "<s>[INST] a [/INST] b </s><s>", "a<s>b</s>c",
    "<unk>", " <s> ", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhey<|eot_id|>", "<|endoftext|>",
    "a <|endoftext|> b<|endoftext|>", "<|im_start|", "<|im_<|im_end|>", "<0x41>", "<0x0A><0xFF>", "\u2581", "a\u2581b \u2581",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f44d\U0001f3fd", "e\u0301\u0327a\u0308\u0304",
    "\u0065\u0301 vs \u00e9", "\ufb01\ufb02 \u2460 \u33a5 \uff21\uff22", "\u1112\u1161\u11ab\u1100\u1173\u11af", "\uac00\uac01\u11a8", "\u304b\u3099 \uff76\uff9e",
    "\u0958\u0959 \u0929\u093c", "\u0e01\u0e33\u0e19\u0e49\u0e33", "\u6211\u60f3\u5728apple\u5de5\u4f5c1314151\u5929\uff5e", "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u3053\u3093\u306b\u3061\u306f",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u05e9\u05dc\u05d5\u05dd", "\u0417\u0434\u0440\u0430\u0432\u0441\u0442\u0432\u0443\u0439, \u043c\u0438\u0440", "\u1780\u17b6\u1793\u17cb\u178f\u17c2",
    "\u0001\u0002\u001f\u007f\u0080\u009f", "\ufeffBOM", "\u00ad soft\u00adhyphen", "\u200b\u200c\u200d\u2060", "\u202e rtl \u202c", "\u180e\u2028\u2029\u0085\u00a0\u3000x",
    "\ufffd \uffff \U0010ffff", "\ue000\U000f0000", "def f(x):\n    return x**2  # ok\n\n\n\tpass\n", "{\"a\": [1, 2.5, null]}", "https://ex.org/?q=a%20b&c=d#e",
    "\\frac{1}{2} $x_i^2$", "#### 72", "The answer is: 1,000.", "[CAP]cap[CAP] word [LEFT] x [RIGHT]  y", "wordWORDword WORD WORDS aWORD", "naive \u00efve cafe\u0301 NORM norm",
]

RANGES = [(0x20, 0x7e), (0x20, 0x7e), (0x20, 0x7e), (0xa0, 0x17f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x4ff),
          (0x590, 0x5ff), (0x600, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f), (0x1100, 0x11ff), (0x1e00, 0x1eff),
          (0x2000, 0x206f), (0x2070, 0x209f), (0x2100, 0x214f), (0x2190, 0x21ff), (0x2460, 0x24ff), (0x3040, 0x30ff),
          (0x4e00, 0x4fff), (0xac00, 0xad00), (0xfb00, 0xfb4f), (0xff00, 0xffef), (0x1d400, 0x1d4ff), (0x1f300, 0x1f64f),
          (0x1f900, 0x1f9ff), (0x20000, 0x200ff), (1, 0x1f)]
WORDS = ("the model answers a question about numbers and SHE'LL it's don't 7 42 2024 3.14 foo_bar camelCase "
         "Response: Instruction antidisestablishment \u00fcber na\u00efve \u4e2d\u6587 \u0440\u0443\u0441 \U0001f680 <s> </s> <|im_end|>").split()


def random_text(rng):
    kind = rng.randrange(5)
    if kind == 0:  # words with odd white space
        return "".join(rng.choice(WORDS) + rng.choice([" ", " ", " ", "  ", "\n", "\n\n", "\t", "", " \n", "      "])
                       for _ in range(rng.randrange(1, 12)))
    if kind == 1:  # one script
        lo, hi = rng.choice(RANGES)
        return "".join(chr(rng.randint(lo, hi)) for _ in range(rng.randrange(1, 24)))
    if kind == 2:  # scripts mixed
        return "".join(chr(rng.randint(*rng.choice(RANGES))) for _ in range(rng.randrange(1, 24)))
    if kind == 3:  # white space
        return "".join(rng.choice([" ", " ", " ", "\n", "\r", "\t", "\u00a0", "\u3000", "\u2003", "\u0085", "x", ".", "1"])
                       for _ in range(rng.randrange(1, 20)))
    return "".join(rng.choice("abcABC019'.,!?-_ \n") for _ in range(rng.randrange(1, 40)))


def make_texts(n=340):
    rng = random.Random(20240601)
    texts = list(FIXED)
    while len(texts) < n:
        text = random_text(rng)
        # Unassigned characters change class from one Unicode version to the next: leave them out.
        if all(unicodedata.category(c) != "Cn" for c in text):
            texts.append(text)
    return texts


def record(out, name, tokenizer, texts):
    result = {"ids": [], "raw": {}, "decoded": {}}
    for i, text in enumerate(texts):
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text).ids
        result["ids"].append(ids)
        tokenizer.encode_special_tokens = True
        raw = tokenizer.encode(text).ids
        if raw != ids:
            result["raw"][str(i)] = raw
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        if decoded != text and "\0" not in decoded:
            result["decoded"][str(i)] = decoded
    write(os.path.join(out, name + ".json"), result)


def write(path, value):
    with open(path, "w") as f:
        json.dump(value, f, separators=(",", ":"))
        f.write("\n")


def gguf_tokenizer(path, pre):
    """Byte-level BPE from a GGUF file's vocabulary, as Hugging Face tokenizers builds it."""
    reader = GGUFReader(path)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    t = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(tokens)}, merges=merges))
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(p, special=True) for p, k in zip(tokens, types) if k == 3])
    t.add_tokens([AddedToken(p, normalized=False) for p, k in zip(tokens, types) if k == 4])
    return t


def check_llama_cpp(path, tokenizer, texts):
    try:
        from llama_cpp import Llama
    except ImportError:
        print("llama-cpp-python is not installed:", os.path.basename(path), "not checked against it")
        return
    model = Llama(path, vocab_only=True, verbose=False)
    tokenizer.encode_special_tokens = False
    bad = [t for t in texts if model.tokenize(t.encode(), add_bos=False, special=True) != tokenizer.encode(t).ids]
    print(os.path.basename(path), "against llama.cpp:", len(texts) - len(bad), "equal;", "differ:", bad[:10])


def corpus():
    rng = random.Random(7)
    base = [t for t in FIXED if t.strip()] + [random_text(rng) for _ in range(300)]
    base = [t.replace("\0", " ") for t in base]
    return base + ["the model answers the question about the numbers and the answer is %d" % (i * 37) for i in range(200)]


def small_bytes(directory):
    """Every part that byte-level files use: NFC, Split by two expressions, digits, flags of added tokens."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.Split("_", "merged_with_next"),
        pre_tokenizers.Split(Regex(r"[.!?]"), "merged_with_previous"),
        pre_tokenizers.Split(Regex(r"\w"), "contiguous", invert=True),
        pre_tokenizers.Split("=", "removed"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=512, special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens([AddedToken("[LEFT]", lstrip=True, special=True), AddedToken("[RIGHT]", rstrip=True, special=True)])
    t.add_tokens([AddedToken("[CAP]", normalized=False), AddedToken("WORD", single_word=True, normalized=False),
                  AddedToken("caf\u00e9", normalized=True), AddedToken("NORM", normalized=True, lstrip=True)])
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", t.token_to_id("<s>")), ("</s>", t.token_to_id("</s>"))])])
    save(directory, t, {"bos_token": "<s>", "eos_token": {"content": "</s>"}})
    return t


def save(directory, tokenizer, config):
    os.makedirs(directory, exist_ok=True)
    write(os.path.join(directory, "tokenizer.json"), json.loads(tokenizer.to_str()))
    write(os.path.join(directory, "tokenizer_config.json"), config)


def train_sentencepiece(directory):
    os.makedirs(directory, exist_ok=True)
    target = os.path.abspath(os.path.join(directory, "tokenizer.model"))
    with tempfile.TemporaryDirectory() as tmp, contextlib.chdir(tmp):  # the model file keeps the prefix's path
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([t.replace("\n", " ") for t in corpus() if all(" " <= c < "\u0180" for c in t)]),
            model_prefix="m", model_type="bpe", vocab_size=700, byte_fallback=True, normalization_rule_name="identity",
            remove_extra_whitespaces=False, split_digits=True, user_defined_symbols=["[CAP]", "WORD"],
            character_coverage=0.999, max_sentence_length=100000, minloglevel=2)
        shutil.copy("m.model", target)
    write(os.path.join(directory, "tokenizer_config.json"), {"add_bos_token": True, "add_eos_token": False})
    return sentencepiece.SentencePieceProcessor(model_file=os.path.join(directory, "tokenizer.model"))


def sp_bpe(sp):
    """Vocabulary and merges of a SentencePiece BPE model: every way to put a piece together, best score first."""
    vocab = {sp.id_to_piece(i): i for i in range(len(sp))}
    plain = {p: i for p, i in vocab.items() if not (sp.is_control(i) or sp.is_unknown(i) or sp.is_byte(i))}
    merges = []
    for piece, i in plain.items():
        for k in range(1, len(piece)):
            if piece[:k] in plain and piece[k:] in plain:
                merges.append((-sp.get_score(i), plain[piece[:k]], plain[piece[k:]], piece[:k], piece[k:]))
    merges = [(m[3], m[4]) for m in sorted(merges)]
    return models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def small_sp(directory, sp):
    """The form that LLaMA-2's tokenizer.json has."""
    t = Tokenizer(sp_bpe(sp))
    t.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    t.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(p, normalized=False, special=True) for p in ("<unk>", "<s>", "</s>")])
    t.add_tokens([AddedToken("[CAP]", normalized=False), AddedToken("\u00efve", normalized=True)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    save(directory, t, {"bos_token": "<s>", "eos_token": "</s>"})
    return t


def small_meta(directory, sp):
    """The newer form: a Metaspace pre-tokeniser, prefix at the beginning only, compatibility forms."""
    t = Tokenizer(sp_bpe(sp))
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first", split=True)
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(replacement=SPACE, prepend_scheme="first")])
    t.add_special_tokens([AddedToken(p, normalized=False, special=True) for p in ("<unk>", "<s>", "</s>")])
    save(directory, t, {"eos_token": "</s>"})
    return t


def record_model(out, name, sp, texts):
    """SentencePiece itself, behind BOS.  It never parses control tokens: to be compared with `raw` alone."""
    result = {"ids": [[sp.bos_id()] + sp.encode(t) for t in texts], "raw": {}, "decoded": {}}
    write(os.path.join(out, name + ".json"), result)


def fuzz_seeds(directory, sp):
    """Tiny files of each kind for tests/fuzz."""
    os.makedirs(directory, exist_ok=True)
    pieces = ["a", "b", "\u0120", "ab", "\u0120a", "\u00c3", "<s>", "</s>", "1"]
    for name, model, kinds in (("gguf_gpt2", "gpt2", [1] * 6 + [3, 3, 4]), ("gguf_llama", "llama", [1] * 6 + [2, 3, 6])):
        w = GGUFWriter(os.path.join(directory, name), "llama")
        w.add_tokenizer_model(model)
        w.add_tokenizer_pre("smollm")
        w.add_token_list([p.replace("\u0120", SPACE) if model == "llama" else p for p in pieces])
        w.add_token_types(kinds)
        w.add_token_scores([-float(i) for i in range(len(pieces))])
        w.add_token_merges(["a b", "\u0120 a"])
        w.add_bos_token_id(6)
        w.add_eos_token_id(7)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()
    t = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[("a", "b"), ("\u0120", "a")], unk_token="1"))
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex("x+"), "b")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                               pre_tokenizers.Digits(), pre_tokenizers.ByteLevel()])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken("<s>", lstrip=True)])
    t.add_tokens([AddedToken("new", single_word=True)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 6)])
    write(os.path.join(directory, "json_bytes"), json.loads(t.to_str()))
    t = Tokenizer(models.BPE(vocab={"<unk>": 0, SPACE: 1, "a": 2, SPACE + "a": 3, "<0x0A>": 4}, merges=[(SPACE, "a")],
                             unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    write(os.path.join(directory, "json_sp"), json.loads(t.to_str()))
    with open(os.path.join(directory, "sentencepiece"), "wb") as f:
        f.write(sp.serialized_model_proto())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    for name in ("llama2", "llama3", "gpt2", "smollm2"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--seeds", help="also write seeds for tests/fuzz into this directory")
    a = p.parse_args()
    texts = make_texts()
    write(os.path.join(a.out, "texts.json"), texts)

    llama2 = Tokenizer.from_file(os.path.join(a.llama2, "tokenizer.json"))
    record(a.out, "llama2", llama2, texts)
    record(a.out, "llama3", Tokenizer.from_file(os.path.join(a.llama3, "tokenizer.json")), texts)
    # The two files of that directory need not hold the same vocabulary: each has its own record.
    sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(a.llama2, "tokenizer.model"))
    record_model(a.out, "llama2-model", sp, texts)

    gpt2 = gguf_tokenizer(a.gpt2, pre_tokenizers.ByteLevel(add_prefix_space=False))
    record(a.out, "gpt2", gpt2, texts)
    check_llama_cpp(a.gpt2, gpt2, texts)
    smollm2 = gguf_tokenizer(a.smollm2, pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    record(a.out, "smollm2", smollm2, texts)
    check_llama_cpp(a.smollm2, smollm2, texts)

    record(a.out, "small-bytes", small_bytes(os.path.join(a.out, "small-bytes")), texts)
    sp = train_sentencepiece(os.path.join(a.out, "small-model"))
    record_model(a.out, "small-model", sp, texts)
    record(a.out, "small-sp", small_sp(os.path.join(a.out, "small-sp"), sp), texts)
    record(a.out, "small-meta", small_meta(os.path.join(a.out, "small-meta"), sp), texts)
    if a.seeds:
        fuzz_seeds(a.seeds, sp)


if __name__ == "__main__":
    main()
