/* SPDX-License-Identifier: Apache-2.0 */
/* rows.h - the rows of a file of data, one after the other. */
#ifndef MIL_EVAL_ROWS_H
#define MIL_EVAL_ROWS_H

#include "io/json.h"

/* One row, an object that lives until the return; number: in the file, from 1.  Errors get file and
 * row in front. */
typedef enum mil_status (*row_fn)(void *ctx, const json_t *row, int64_t number,
                                  struct mil_error *err);
/* The first `limit` rows (0: all).  The first error ends it: that of records_open or records_next
 * (io/records.h), or of `each`; MIL_INPUT when there are no rows. */
enum mil_status rows_each(const char *path, int64_t limit, row_fn each, void *ctx,
                          struct mil_error *err);

#endif
