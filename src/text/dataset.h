/* SPDX-License-Identifier: Apache-2.0 */
/* dataset.h - data files as tokenised, labelled samples.
 *
 * Formats (a table; a new one is a row): alpaca, sharegpt, messages, prompt_completion,
 * query_response (also question/answer), text.  Each sample is rendered to one text and tokenised
 * ONCE with offsets; a token is supervised when it starts inside a supervised span; EOS is appended
 * and supervised.  What is cut, dropped or refused follows on_too_long and is counted. */
#ifndef MIL_TEXT_DATASET_H
#define MIL_TEXT_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "text/template.h"
#include "text/tokenizer.h"

enum too_long { TOO_LONG_TRUNCATE, TOO_LONG_DROP, TOO_LONG_ERROR };

/* One file of a data set. format NULL: detected from the first row. limit < 0: all rows. skip: rows
 * left out at the beginning. */
struct dataset_source {
    const char *path, *format;
    int64_t limit, skip;
};
struct dataset_options {
    const struct chat_template *template_;
    bool train_on_inputs;
    int64_t max_length; /* tokens, EOS included */
    enum too_long on_too_long;
};

/* Raise when the same rows, template and tokenizer come to give other samples: results of earlier
 * programs are then not taken from a cache. */
#define DATASET_REVISION 1

struct dataset_counts {
    int64_t rows, samples; /* read, kept */
    int64_t truncated, dropped_long, dropped_unlabelled;
    int64_t tokens, supervised, longest; /* of the kept samples; longest before cutting */
};

/* Samples back to back: sample i is tokens [begin[i], begin[i + 1]).  labels[t] is 1 when token t
 * itself is supervised (to be predicted from t - 1). */
struct dataset {
    int32_t *ids;
    uint8_t *labels;
    int64_t *begin;
    int64_t n;
    struct dataset_counts counts;
    char format[32]; /* of the last source, as given or detected */
    int64_t cap_tokens, cap_samples;
};
/* A label-less sample (nothing supervised is left after cutting, or the answer is empty) is dropped
 * and counted; under TOO_LONG_ERROR it is MIL_INPUT with file and row.  No sample left at all:
 * MIL_INPUT. */
enum mil_status dataset_load(const struct dataset_source *sources, size_t n,
                             const struct tokenizer *tok, const struct dataset_options *options,
                             struct dataset *out, struct mil_error *err);
void dataset_release(struct dataset *d);
/* Sample i as text with the supervised part between the markers "[[" and "]]", appended to out; the
 * middle of a long one is left out, saying so. */
enum mil_status dataset_preview(const struct dataset *d, const struct tokenizer *tok, int64_t i,
                                struct str *out, struct mil_error *err);

/* A row as messages, for evaluation: the prompt's messages and the truth apart.  Everything is
 * owned by the row: release it with row_release. */
struct eval_row {
    struct message messages[64];
    size_t n;           /* prompt messages, the last one not from the assistant */
    const char *truth;  /* `answer`, else `output`/completion/response; NULL when there is none */
    const char *output; /* the full reference output, or NULL */
    void *owner;
};
enum mil_status dataset_row_parse(const char *format, const void *json_row, struct eval_row *out,
                                  struct mil_error *err);
void eval_row_release(struct eval_row *row);
const char *const *dataset_formats(void); /* names, NULL-terminated */
/* The format that a row has, or NULL. */
const char *dataset_detect(const void *json_row);

#endif
