/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.c - the run of a tokenizer: encode, decode, streams, and what it knows about itself.
 * How the parts are filled lies in tokenizer_json.c, tokenizer_spm.c and tokenizer_gguf.c. */
#include "text/tokenizer.h"

#include <string.h>

#include "core/mem.h"
#include "io/file.h"
#include "text/tokenizer_impl.h"

struct tokenizer *tokenizer_new(void) {
    struct tokenizer *t = mem_calloc(MEM_TEXT, 1, sizeof *t);
    if (!t) return NULL;
    t->bos = t->eos = t->bpe.unk = -1;
    for (int i = 0; i < 256; i++) t->bpe.byte_ids[i] = -1;
    t->identity = hash_new();
    if (!t->identity) tokenizer_free(&t);
    return t;
}

void tokenizer_free(struct tokenizer **t) {
    if (!t || !*t) return;
    bpe_release(&(*t)->bpe);
    normalizer_release(&(*t)->normalizer);
    pretok_release(&(*t)->pretok);
    decoder_release(&(*t)->decoder);
    added_release(&(*t)->raw);
    added_release(&(*t)->normal);
    hash_free(&(*t)->identity);
    mem_free((*t)->chat_template);
    mem_free(*t);
    *t = NULL;
}

enum mil_status tokenizer_add_affix(struct tokenizer *t, bool prefix, int64_t id,
                                    struct mil_error *err) {
    if (!vocab_has(&t->bpe.vocab, id))
        return error_set(err, MIL_INPUT,
                         "token %lld, to be added to every text, is not in the "
                         "vocabulary",
                         (long long)id);
    size_t *n = prefix ? &t->n_prefix : &t->n_suffix;
    if (*n == TOKENIZER_MAX_AFFIX)
        return error_set(err, MIL_UNSUPPORTED, "more than %d tokens added at one end of a text",
                         TOKENIZER_MAX_AFFIX);
    (prefix ? t->prefix : t->suffix)[(*n)++] = (int32_t)id;
    return MIL_OK;
}

void tokenizer_note(struct tokenizer *t, const char *name, const void *bytes, size_t n) {
    uint64_t size = n;
    hash_add(t->identity, name, strlen(name) + 1);
    hash_add(t->identity, &size, sizeof size);
    hash_add(t->identity, bytes, n);
}

void tokenizer_identity(const struct tokenizer *t, char out[HASH_HEX]) {
    hash_hex(t->identity, out);
}

void tokenizer_find_bytes(struct tokenizer *t) {
    for (int i = 0; i < 256; i++) {
        char name[8], byte = (char)i;
        int n = snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        bool level = t->bpe.byte_symbols;
        t->bpe.byte_ids[i] = vocab_find(&t->bpe.vocab, level ? &byte : name, level ? 1 : (size_t)n);
    }
}

enum mil_status tokenizer_finish(struct tokenizer *t, struct mil_error *err) {
    if (t->bpe.vocab.n == 0) return error_set(err, MIL_INPUT, "the vocabulary is empty");
    TRY(added_index(&t->raw, err));
    return added_index(&t->normal, err);
}

enum mil_status tokenizer_use_sentencepiece(struct tokenizer *t, bool dummy_prefix,
                                            bool collapse_spaces, bool escape_spaces,
                                            struct mil_error *err) {
    const char *space = escape_spaces ? "\xe2\x96\x81" : " ";
    struct normal_step *step = NULL;
    struct decode_step *strip = NULL;
    if (collapse_spaces) TRY(normalizer_add(&t->normalizer, NORMAL_COLLAPSE, &step, err));
    if (dummy_prefix) {
        TRY(normalizer_add(&t->normalizer, NORMAL_PREPEND, &step, err));
        str_add(&step->text, space);
    }
    if (escape_spaces) {
        TRY(normalizer_add(&t->normalizer, NORMAL_REPLACE, &step, err));
        str_add(&step->text, space);
        TRY(pattern_init_literal(&step->pattern, " ", err));
        TRY(decoder_add(&t->decoder, DECODE_REPLACE, space, " ", NULL, err));
    }
    TRY(decoder_add(&t->decoder, DECODE_FALLBACK, NULL, NULL, NULL, err));
    TRY(decoder_add(&t->decoder, DECODE_FUSE, NULL, NULL, NULL, err));
    if (!dummy_prefix) return MIL_OK;
    TRY(decoder_add(&t->decoder, DECODE_STRIP, " ", NULL, &strip, err));
    strip->start = 1;
    return MIL_OK;
}

enum mil_status tokenizer_open_dir(const char *dir, struct tokenizer **out, struct mil_error *err) {
    /* Kinds of files in order of preference: the first one present is read. */
    static const struct {
        const char *file;
        enum mil_status (*read)(const char *path, struct tokenizer *t, struct mil_error *err);
        bool has_post_processor; /* says itself which tokens it adds */
    } kinds[] = {
        {"tokenizer.json", tokenizer_read_json, true},
        {"tokenizer.model", tokenizer_read_sentencepiece, false},
    };
    *out = NULL;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char path[PATH_CAP];
        TRY(path_join(path, dir, kinds[k].file, err));
        if (!path_exists(path)) continue;
        struct tokenizer *t = tokenizer_new();
        if (!t) return error_nomem(err, sizeof *t);
        enum mil_status st = kinds[k].read(path, t, err);
        if (st == MIL_OK) st = tokenizer_read_config(dir, t, kinds[k].has_post_processor, err);
        if (st == MIL_OK) st = tokenizer_finish(t, err);
        if (st != MIL_OK) tokenizer_free(&t);
        *out = t;
        return st;
    }
    return error_set(err, MIL_ACCESS, "%s: neither tokenizer.json nor tokenizer.model is there",
                     dir);
}

struct tokenizer_scratch {
    const struct tokenizer *t;
    struct mapped_text normal, spare;
    struct pretok_scratch pretok;
    struct bpe_scratch bpe;
};

static void scratch_release(struct tokenizer_scratch *s) {
    mapped_release(&s->normal);
    mapped_release(&s->spare);
    pretok_scratch_release(&s->pretok);
    bpe_scratch_release(&s->bpe);
}

enum mil_status tokenizer_scratch_new(const struct tokenizer *t, struct tokenizer_scratch **out,
                                      struct mil_error *err) {
    *out = mem_calloc(MEM_TEXT, 1, sizeof **out);
    if (!*out) return error_nomem(err, sizeof **out);
    (*out)->t = t;
    enum mil_status st = bpe_scratch_remember(&(*out)->bpe, err);
    if (st != MIL_OK) tokenizer_scratch_free(out);
    return st;
}

void tokenizer_scratch_free(struct tokenizer_scratch **s) {
    if (!s || !*s) return;
    scratch_release(*s);
    mem_free(*s);
    *s = NULL;
}

/* Everything one call of encode uses. */
struct encoder {
    const struct tokenizer *t;
    bool special;
    const struct span *where; /* special tokens only inside these; NULL: anywhere */
    size_t n_where;
    struct tokenizer_scratch *work;
    struct tokens *out;
};

/* A text in which added tokens are looked for: byte i comes from map[i], or base + i. */
struct stretch {
    const struct encoder *e;
    const char *text;
    size_t n;
    const int64_t *map;
    int64_t base, end; /* original offsets */
};

static int64_t original(const struct stretch *s, size_t i) {
    if (i >= s->n) return s->end;
    return s->map ? s->map[i] : s->base + (int64_t)i;
}

static bool allows_special(const void *ctx, size_t begin, size_t end) {
    const struct stretch *s = ctx;
    if (!s->e->special) return false;
    if (!s->e->where) return true;
    int64_t from = original(s, begin), to = original(s, end);
    for (size_t i = 0; i < s->e->n_where; i++) {
        const struct span *w = &s->e->where[i];
        if (from >= (int64_t)w->begin && to <= (int64_t)w->end) return true;
    }
    return false;
}

typedef enum mil_status (*stretch_fn)(struct encoder *e, const struct stretch *s,
                                      struct mil_error *err);

/* Cut added tokens out of a stretch; what lies between goes to `inner`. */
static enum mil_status cut_added(struct encoder *e, const struct stretch *s,
                                 const struct added *added, stretch_fn inner,
                                 struct mil_error *err) {
    struct added_search search = {added, s->text, s->n, 0, allows_special, s};
    for (size_t done = 0; done < s->n;) {
        size_t begin = s->n, end = s->n;
        const struct added_token *t = added_next(&search, &begin, &end);
        if (begin > done) {
            struct stretch gap = {e,
                                  s->text + done,
                                  begin - done,
                                  s->map ? s->map + done : NULL,
                                  s->base + (int64_t)done,
                                  original(s, begin)};
            TRY(inner(e, &gap, err));
        }
        if (t) TRY(tokens_add(e->out, t->id, original(s, begin), err));
        done = end;
    }
    return MIL_OK;
}

static enum mil_status encode_pieces(struct encoder *e, const struct stretch *s,
                                     struct mil_error *err) {
    struct pretok_result r;
    struct pretok_scratch *pretok = &e->work->pretok;
    TRY(pretok_run(&e->t->pretok, s->text, s->n, s->map, s->base, pretok, &r, err));
    for (size_t i = 0; i < pretok->spans.n; i++) {
        struct span p = pretok->spans.spans[i];
        TRY(bpe_encode(&e->t->bpe, &e->work->bpe, r.text + p.begin, p.end - p.begin,
                       r.map ? r.map + p.begin : NULL, r.base + (int64_t)p.begin, e->out, err));
    }
    return MIL_OK;
}

static enum mil_status encode_normal(struct encoder *e, const struct stretch *s,
                                     struct mil_error *err) {
    if (e->t->normalizer.n == 0) return cut_added(e, s, &e->t->normal, encode_pieces, err);
    struct mapped_text *text = &e->work->normal;
    TRY(normalizer_run(&e->t->normalizer, s->text, s->n, s->base, text, &e->work->spare, err));
    if (text->text.len > INT32_MAX)
        return error_set(err, MIL_INPUT, "a text grows beyond 2 GiB by normalisation");
    struct stretch normal = {e, str_c(&text->text), text->text.len, text->map, s->base, s->end};
    return cut_added(e, &normal, &e->t->normal, encode_pieces, err);
}

enum mil_status tokenizer_encode_within(const struct tokenizer *t, const char *text, size_t n,
                                        unsigned flags, const struct span *where, size_t n_where,
                                        struct tokens *out, struct mil_error *err) {
    out->n = 0;
    size_t valid = utf8_valid_prefix(text, n);
    if (valid < n)
        return error_set_at(err, MIL_INPUT, (int64_t)valid, "invalid UTF-8 at byte %zu", valid);
    if (n > TOKENIZER_MAX_TEXT)
        return error_set(err, MIL_INPUT, "a text of %zu bytes (limit %d)", n, TOKENIZER_MAX_TEXT);
    struct tokenizer_scratch own = {.t = t};
    struct encoder e = {.t = t,
                        .special = (flags & TOKENIZE_PARSE_SPECIAL) != 0,
                        .where = where,
                        .n_where = n_where,
                        .work = out->scratch ? out->scratch : &own,
                        .out = out};
    REQUIRE(e.work->t == t);
    bool affix = (flags & TOKENIZE_ADD_SPECIAL) != 0;
    enum mil_status st = MIL_OK;
    for (size_t i = 0; affix && st == MIL_OK && i < t->n_prefix; i++)
        st = tokens_add(out, t->prefix[i], 0, err);
    struct stretch whole = {&e, text, n, NULL, 0, (int64_t)n};
    if (st == MIL_OK) st = cut_added(&e, &whole, &t->raw, encode_normal, err);
    for (size_t i = 0; affix && st == MIL_OK && i < t->n_suffix; i++)
        st = tokens_add(out, t->suffix[i], (int64_t)n, err);
    scratch_release(&own);
    return st;
}

enum mil_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                                 unsigned flags, struct tokens *out, struct mil_error *err) {
    return tokenizer_encode_within(t, text, n, flags, NULL, 0, out, err);
}

static enum mil_status check_id(const struct tokenizer *t, int32_t id, struct mil_error *err) {
    if (vocab_has(&t->bpe.vocab, id)) return MIL_OK;
    return error_set(err, MIL_INPUT, "token id %d is not in the vocabulary of %d", (int)id,
                     (int)t->bpe.vocab.n);
}

enum mil_status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                                 bool skip_special, struct str *out, struct mil_error *err) {
    for (size_t i = 0; i < n; i++) TRY(check_id(t, ids[i], err));
    return decoder_run(&t->decoder, &t->bpe.vocab, ids, n, skip_special, out, err);
}

enum mil_status token_stream_push(struct token_stream *s, int32_t id, struct str *out,
                                  struct mil_error *err) {
    TRY(check_id(s->tokenizer, id, err));
    TRY(decoder_piece(&s->tokenizer->decoder, &s->tokenizer->bpe.vocab, id, !s->started,
                      &s->pending, err));
    s->started = true;
    if (s->pending.len == 0) return str_status(out, err);
    size_t used = utf8_lossy(s->pending.data, s->pending.len, false, out);
    memmove(s->pending.data, s->pending.data + used, s->pending.len - used + 1);
    s->pending.len -= used;
    return str_status(out, err);
}

enum mil_status token_stream_finish(struct token_stream *s, struct str *out,
                                    struct mil_error *err) {
    utf8_lossy(str_c(&s->pending), s->pending.len, true, out);
    str_reset(&s->pending);
    s->started = false;
    return str_status(out, err);
}

void token_stream_release(struct token_stream *s) {
    str_release(&s->pending);
    s->started = false;
}

int32_t tokenizer_vocab_size(const struct tokenizer *t) {
    return t->bpe.vocab.n;
}

int32_t tokenizer_bos(const struct tokenizer *t) {
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t) {
    return t->eos;
}

/* Pieces that merging cannot make are outside the index; callers ask for few of them. */
static int32_t scan_unindexed(const struct vocab *v, const char *bytes, size_t n) {
    for (int32_t id = 0; id < v->n; id++) {
        const struct piece *p = &v->pieces[id];
        bool candidate = (p->flags & PIECE_PRESENT) && !(p->flags & PIECE_KEY);
        if (candidate && p->n == n && memcmp(vocab_bytes(v, id), bytes, n) == 0) return id;
    }
    return -1;
}

int32_t tokenizer_id(const struct tokenizer *t, const char *piece) {
    const struct vocab *v = &t->bpe.vocab;
    struct str bytes = {0};
    size_t n = strlen(piece);
    int32_t id = -1;
    bool mapped = t->bpe.byte_symbols && bytelevel_unmap(piece, n, &bytes) && !bytes.failed;
    if (mapped) {
        id = vocab_find(v, str_c(&bytes), bytes.len);
        if (id < 0) id = scan_unindexed(v, str_c(&bytes), bytes.len);
    } else if (!t->bpe.byte_symbols) {
        id = vocab_find(v, piece, n);
    }
    str_release(&bytes);
    return id >= 0 ? id : scan_unindexed(v, piece, n);
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id) {
    return vocab_has(&t->bpe.vocab, id) && (t->bpe.vocab.pieces[id].flags & PIECE_SPECIAL);
}

const char *tokenizer_kind(const struct tokenizer *t) {
    return t->bpe.byte_symbols ? "byte-level BPE" : "SentencePiece BPE";
}

const char *tokenizer_chat_template(const struct tokenizer *t) {
    return t->chat_template;
}
