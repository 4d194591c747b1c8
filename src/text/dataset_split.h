/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_split.h - where the next rows of a data file lie, without parsing them: so that each can
 * be parsed by another thread.
 *
 * Only what looks like an ordinary row is found; at anything else the search stops in front of it,
 * and io/records.h, which goes on from there, reads it or says what is wrong. */
#ifndef MIL_TEXT_DATASET_SPLIT_H
#define MIL_TEXT_DATASET_SPLIT_H

#include "io/records.h"

struct row_slice {
    size_t from;     /* the reader's place before this row, its separator included */
    size_t begin, n; /* the row: bytes of the file from '{' to its '}' */
    int64_t row;     /* rows before it */
};
/* Up to cap rows, or about max_bytes of them; r moves behind the last one.  Returns their number. */
size_t records_split(struct records *r, struct row_slice *out, size_t cap, size_t max_bytes);
/* Take r back to where it was before this row. */
void records_rewind(struct records *r, const struct row_slice *slice);

#endif
