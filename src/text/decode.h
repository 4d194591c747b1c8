/* SPDX-License-Identifier: Apache-2.0 */
/* decode.h - from tokens back to text: the list of decoder steps of a tokenizer. */
#ifndef MIL_TEXT_DECODE_H
#define MIL_TEXT_DECODE_H

#include "text/vocab.h"

/* In the order in which the file lists them.
 * BYTES: all tokens' bytes joined, invalid UTF-8 replaced by U+FFFD (byte-level).
 * REPLACE: from -> to in each token.  FALLBACK: runs of <0xXX> tokens become their bytes, or U+FFFD
 * each if they are no UTF-8.  FUSE: all tokens become one.  STRIP: up to `start` times `from` from
 * the left of each token and `stop` times from its right.  FIRST_SPACE: `from` -> " ", but nothing
 * in the first token (Metaspace). */
enum decode_kind {
    DECODE_BYTES,
    DECODE_REPLACE,
    DECODE_FALLBACK,
    DECODE_FUSE,
    DECODE_STRIP,
    DECODE_FIRST_SPACE
};
struct decode_step {
    enum decode_kind kind;
    struct str from, to;
    int64_t start, stop;
};
#define DECODE_MAX_STEPS 16
struct decoder {
    struct decode_step steps[DECODE_MAX_STEPS];
    size_t n;
    bool join_by_space; /* no decoder at all: the reference joins tokens by spaces */
};
void decoder_release(struct decoder *d);
enum mil_status decoder_add(struct decoder *d, enum decode_kind kind, const char *from,
                            const char *to, struct decode_step **step, struct mil_error *err);
/* ids, all in the vocabulary, appended to out as valid UTF-8. */
enum mil_status decoder_run(const struct decoder *d, const struct vocab *v, const int32_t *ids,
                            size_t n, bool skip_special, struct str *out, struct mil_error *err);
/* The bytes of one token of a stream (byte tokens as raw bytes); first: nothing came before. */
enum mil_status decoder_piece(const struct decoder *d, const struct vocab *v, int32_t id,
                              bool first, struct str *out, struct mil_error *err);
/* bytes as UTF-8, each maximal invalid part as one U+FFFD.  Stops before an incomplete character at
 * the end unless `final`; returns the bytes consumed. */
size_t utf8_lossy(const char *bytes, size_t n, bool final, struct str *out);

#endif
