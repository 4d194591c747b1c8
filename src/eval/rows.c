/* SPDX-License-Identifier: Apache-2.0 */
/* rows.c - the loop over a file's rows that every reader of data here needs: a row is freed whatever
 * happens to it, an error says which row it is about, and none is parsed past the limit. */
#include "eval/rows.h"

#include "io/records.h"

static enum mil_status next(struct records *r, row_fn each, void *ctx, bool *more,
                            struct mil_error *err) {
    json_t *row = NULL;
    TRY(records_next(r, &row, err));
    *more = row != NULL;
    if (!row) return MIL_OK;
    enum mil_status st = each(ctx, row, r->row, err);
    if (st != MIL_OK) error_prefix(err, "%s: row %lld: ", r->path, (long long)r->row);
    json_decref(row);
    return st;
}

enum mil_status rows_each(const char *path, int64_t limit, row_fn each, void *ctx,
                          struct mil_error *err) {
    struct records records;
    bool more = true;
    TRY(records_open(&records, path, err));
    enum mil_status st = MIL_OK;
    while (st == MIL_OK && more && (limit == 0 || records.row < limit))
        st = next(&records, each, ctx, &more, err);
    if (st == MIL_OK && records.row == 0) st = error_set(err, MIL_INPUT, "%s: holds no rows", path);
    records_close(&records);
    return st;
}
