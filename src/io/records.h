/* SPDX-License-Identifier: Apache-2.0 */
/* records.h - the rows of a data file, one at a time: JSON Lines, or one JSON array of objects.
 *
 * Which of the two is told by the first byte that is not white space ('[' or '{'), not by the name.
 * Memory is bounded by the longest row.  A row that is no object, broken JSON or invalid UTF-8 is
 * MIL_INPUT with file, row number and byte offset. */
#ifndef MIL_IO_RECORDS_H
#define MIL_IO_RECORDS_H

#include <jansson.h>

#include "core/error.h"
#include "io/file.h"

struct records {
    struct mapped_file file;
    char path[PATH_CAP];
    size_t at;   /* byte offset of what comes next */
    int64_t row; /* rows returned so far */
    int array;   /* 1: a JSON array; 0: JSON Lines */
};
enum mil_status records_open(struct records *r, const char *path, struct mil_error *err);
/* *row is a new reference (json_decref), NULL at the end. */
enum mil_status records_next(struct records *r, json_t **row, struct mil_error *err);
void records_close(struct records *r);

#endif
