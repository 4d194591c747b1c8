/* SPDX-License-Identifier: Apache-2.0 */
/* normalize.h - what a tokenizer does to the text before it splits it, keeping for every byte of
 * the result the offset in the original text that it comes from. */
#ifndef MIL_TEXT_NORMALIZE_H
#define MIL_TEXT_NORMALIZE_H

#include "core/error.h"
#include "core/str.h"
#include "text/pattern.h"

/* A text and the original offset of each of its bytes. */
struct mapped_text {
    struct str text;
    int64_t *map;
    size_t cap;
};
void mapped_release(struct mapped_text *m);
void mapped_reset(struct mapped_text *m);
/* Append n bytes; byte i comes from base + i, or all from base when !moving. A failure shows in
 * mapped_status. */
void mapped_add(struct mapped_text *m, const char *bytes, size_t n, int64_t base, bool moving);
enum mil_status mapped_status(const struct mapped_text *m, struct mil_error *err);

/* X(enumerator, name in tokenizer.json) */
#define UNICODE_FORM_MAP(X)                                                                        \
    X(FORM_NFC, "NFC") X(FORM_NFD, "NFD") X(FORM_NFKC, "NFKC") X(FORM_NFKD, "NFKD")

enum unicode_form {
#define FORM_ENUM(name, text) name,
    UNICODE_FORM_MAP(FORM_ENUM)
#undef FORM_ENUM
};

enum normal_kind {
    NORMAL_PREPEND,  /* text in front, unless there is nothing */
    NORMAL_REPLACE,  /* every match of pattern by text */
    NORMAL_UNICODE,  /* a normalisation form */
    NORMAL_COLLAPSE, /* spaces: none at the ends, one in between (SentencePiece) */
};
struct normal_step {
    enum normal_kind kind;
    struct str text;
    struct pattern pattern;
    enum unicode_form form;
};
#define NORMAL_MAX_STEPS 16
struct normalizer {
    struct normal_step steps[NORMAL_MAX_STEPS];
    size_t n;
};
void normalizer_release(struct normalizer *z);
/* Room for one more step, zeroed; MIL_UNSUPPORTED beyond NORMAL_MAX_STEPS. */
enum mil_status normalizer_add(struct normalizer *z, enum normal_kind kind,
                               struct normal_step **step, struct mil_error *err);
/* text[0, n) at original offset base, through every step, into out; spare is scratch. */
enum mil_status normalizer_run(const struct normalizer *z, const char *text, size_t n, int64_t base,
                               struct mapped_text *out, struct mapped_text *spare,
                               struct mil_error *err);

#endif
