/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_rows.h - rows of the known data formats as conversations. */
#ifndef MIL_TEXT_DATASET_ROWS_H
#define MIL_TEXT_DATASET_ROWS_H

#include <jansson.h>

#include "text/template.h"

/* Zero-initialise.  Strings are borrowed from owner, a JSON array that holds the row and what was
 * made from it. */
struct row {
    struct message *messages;
    size_t n, cap;
    const char *text;           /* format text: no conversation, all of it is learned */
    const char *truth, *output; /* as in struct eval_row */
    json_t *owner;
};
void row_release(struct row *r);

struct row_format;
/* MIL_USAGE with the nearest known name. */
enum mil_status row_format_find(const char *name, const struct row_format **out,
                                struct mil_error *err);
/* The format that a row has, or NULL. */
const struct row_format *row_format_detect(const json_t *json);
const char *row_format_name(const struct row_format *f);
/* r is filled; release it also after failure.  json gets a reference. */
enum mil_status row_parse(const struct row_format *f, json_t *json, struct row *r,
                          struct mil_error *err);

#endif
