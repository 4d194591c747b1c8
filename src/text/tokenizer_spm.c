/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_spm.c - tokenizer.model: a SentencePiece model (protobuf) of type BPE.
 *
 * Honoured: dummy prefix, escaped spaces, collapsed spaces, byte fallback, control and user-defined
 * pieces.  Refused by name: unigram, word and character models, a precompiled character map (any
 * normalisation rule but "identity"), white space as a suffix, unused pieces. */
#include <string.h>

#include "core/mem.h"
#include "io/file.h"
#include "proto/sentencepiece.pb-c.h"
#include "text/tokenizer_impl.h"

enum piece_type { SPM_NORMAL = 1, SPM_UNKNOWN, SPM_CONTROL, SPM_USER, SPM_UNUSED, SPM_BYTE };

typedef Milora__Sentencepiece__Model spm_model;

static enum mil_status put_piece(struct tokenizer *t, int64_t id, const char *text, int type,
                                 struct mil_error *err) {
    unsigned flags = type == SPM_NORMAL || type == SPM_USER || type == SPM_BYTE ? PIECE_KEY : 0;
    bool control = type == SPM_CONTROL || type == SPM_UNKNOWN;
    if (type < SPM_NORMAL || type > SPM_BYTE || type == SPM_UNUSED)
        return error_set(err, MIL_UNSUPPORTED, "piece %lld ('%.60s') is of type %d (%s)",
                         (long long)id, text, type, type == SPM_UNUSED ? "unused" : "unknown");
    TRY(vocab_put(&t->bpe.vocab, id, text, strlen(text), flags | (control ? PIECE_SPECIAL : 0),
                  err));
    struct added_token token = {.id = (int32_t)id, .special = control};
    if (control) return added_put(&t->raw, token, text, strlen(text), err);
    if (type == SPM_USER) return added_put(&t->normal, token, text, strlen(text), err);
    return MIL_OK;
}

static enum mil_status read_pieces(const spm_model *m, struct tokenizer *t, struct mil_error *err) {
    if (m->n_pieces == 0 || m->n_pieces > (size_t)VOCAB_MAX_ID)
        return error_set(err, MIL_INPUT, "%zu pieces", m->n_pieces);
    for (size_t i = 0; i < m->n_pieces; i++) {
        const Milora__Sentencepiece__Piece *p = m->pieces[i];
        if (!p->piece || !*p->piece ||
            utf8_valid_prefix(p->piece, strlen(p->piece)) < strlen(p->piece))
            return error_set(err, MIL_INPUT, "piece %zu is empty or no UTF-8", i);
        TRY(put_piece(t, (int64_t)i, p->piece, p->type, err));
        if (p->type == SPM_UNKNOWN) t->bpe.unk = (int32_t)i;
    }
    TRY(vocab_index(&t->bpe.vocab, err));
    float *scores = mem_alloc(MEM_TEXT, m->n_pieces, sizeof *scores);
    if (!scores) return error_nomem(err, m->n_pieces * sizeof *scores);
    for (size_t i = 0; i < m->n_pieces; i++) scores[i] = m->pieces[i]->score;
    enum mil_status st = bpe_rank_scores(&t->bpe, scores, err);
    mem_free(scores);
    return st;
}

static enum mil_status check_model(const spm_model *m, struct mil_error *err) {
    static const char *const types[] = {"?", "unigram", "BPE", "word", "char"};
    const Milora__Sentencepiece__Normalizer *z = m->normalizer;
    int type = m->trainer ? m->trainer->model_type : 1;
    if (type != 2)
        return error_set(err, MIL_UNSUPPORTED,
                         "a SentencePiece model of type %s is not supported (only BPE is)",
                         type >= 1 && type <= 4 ? types[type] : "unknown");
    if (m->trainer->treat_whitespace_as_suffix)
        return error_set(err, MIL_UNSUPPORTED, "treat_whitespace_as_suffix is not supported");
    if (z && z->precompiled_charsmap.len > 0)
        return error_set(err, MIL_UNSUPPORTED,
                         "the normalisation rule '%.40s' is not supported (only identity is)",
                         z->name ? z->name : "?");
    return MIL_OK;
}

static enum mil_status read_model(const spm_model *m, struct tokenizer *t, struct mil_error *err) {
    TRY(check_model(m, err));
    t->bpe.rule = BPE_SCORES;
    t->bpe.fuse_unk = true;
    t->bpe.byte_fallback = m->trainer->byte_fallback;
    TRY(read_pieces(m, t, err));
    tokenizer_find_bytes(t);
    const Milora__Sentencepiece__Normalizer *z = m->normalizer;
    TRY(tokenizer_use_sentencepiece(t, !z || z->add_dummy_prefix, !z || z->remove_extra_whitespaces,
                                    !z || z->escape_whitespaces, err));
    if (vocab_has(&t->bpe.vocab, m->trainer->bos_id)) t->bos = m->trainer->bos_id;
    if (vocab_has(&t->bpe.vocab, m->trainer->eos_id)) t->eos = m->trainer->eos_id;
    return MIL_OK;
}

enum mil_status tokenizer_read_sentencepiece(const char *path, struct tokenizer *t,
                                             struct mil_error *err) {
    struct mapped_file file = {0};
    TRY(file_map(path, &file, err));
    spm_model *m = milora__sentencepiece__model__unpack(NULL, file.size, file.data);
    enum mil_status st =
        m ? read_model(m, t, err)
          : error_set(err, MIL_INPUT, "is no SentencePiece model (protobuf does not parse)");
    if (m) milora__sentencepiece__model__free_unpacked(m, NULL);
    if (st == MIL_OK) tokenizer_note(t, "tokenizer.model", file.data, file.size);
    file_unmap(&file);
    if (st != MIL_OK) error_prefix(err, "%s: ", path);
    return st;
}
