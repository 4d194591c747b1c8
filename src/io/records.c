/* SPDX-License-Identifier: Apache-2.0 */
/* records.c - rows of JSON Lines or of one JSON array, from a mapping, one at a time.
 *
 * Each row is parsed from the slice that begins at it; jansson reads no further than the row's
 * closing brace, so the whole file costs one pass.  In JSON Lines a row may span lines, but two
 * rows may not share one. */
#include "io/records.h"

#include <string.h>

#include "io/json.h"

#define ROW_MAX_BYTES ((size_t)1 << 28)

static bool is_space(unsigned char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_space(struct records *r) {
    while (r->at < r->file.size && is_space(r->file.data[r->at])) r->at++;
}

/* The byte at the cursor, -1 at the end. */
static int peek(const struct records *r) {
    return r->at < r->file.size ? r->file.data[r->at] : -1;
}

static enum mil_status bad(const struct records *r, const char *what, struct mil_error *err) {
    return error_set_at(err, MIL_INPUT, (int64_t)r->at, "%s: row %lld, byte %zu: %s", r->path,
                        (long long)r->row + 1, r->at, what);
}

static enum mil_status start(struct records *r, struct mil_error *err) {
    if (r->file.size >= 3 && memcmp(r->file.data, "\xef\xbb\xbf", 3) == 0) r->at = 3;
    skip_space(r);
    int c = peek(r);
    if (c < 0)
        return error_set_at(err, MIL_INPUT, (int64_t)r->at, "%s: is empty, holds no rows", r->path);
    if (c != '[' && c != '{')
        return error_set_at(err, MIL_INPUT, (int64_t)r->at,
                            "%s: byte %zu: neither JSON Lines nor a JSON array (must begin with "
                            "'{' or '[', begins with 0x%02x)",
                            r->path, r->at, (unsigned)c);
    r->array = c == '[';
    if (r->array) r->at++;
    return MIL_OK;
}

enum mil_status records_open(struct records *r, const char *path, struct mil_error *err) {
    memset(r, 0, sizeof *r);
    TRY(path_join(r->path, "", path, err));
    TRY(file_map(path, &r->file, err));
    enum mil_status st = start(r, err);
    if (st != MIL_OK) records_close(r);
    return st;
}

/* The row at the cursor, which is at '{'. */
static enum mil_status parse_row(struct records *r, json_t **row, struct mil_error *err) {
    size_t left = r->file.size - r->at, used = 0;
    const char *text = (const char *)r->file.data + r->at;
    if (left > ROW_MAX_BYTES) left = ROW_MAX_BYTES;
    char name[64];
    snprintf(name, sizeof name, "row %lld, byte %zu", (long long)r->row + 1, r->at);
    enum mil_status st = json_read_prefix(text, left, name, row, &used, err);
    if (st != MIL_OK) {
        if (err && err->offset >= 0) err->offset += (int64_t)r->at;
        error_prefix(err, "%s: ", r->path);
        return st;
    }
    r->at += used;
    return MIL_OK;
}

/* Past what stands between rows of an array; *end when it is closed. */
static enum mil_status array_separator(struct records *r, bool *end, struct mil_error *err) {
    skip_space(r);
    *end = peek(r) == ']';
    if (*end) {
        size_t closing = r->at++;
        skip_space(r);
        if (peek(r) >= 0) return bad(r, "more text after the end of the array", err);
        r->at = closing; /* so that another call ends again */
        return MIL_OK;
    }
    if (r->row == 0) return MIL_OK;
    if (peek(r) != ',') return bad(r, "',' or ']' expected after a row", err);
    r->at++;
    skip_space(r);
    return MIL_OK;
}

/* A row of JSON Lines must be alone on its line. */
static enum mil_status line_end(struct records *r, struct mil_error *err) {
    while (r->at < r->file.size && is_space(r->file.data[r->at]))
        if (r->file.data[r->at++] == '\n') return MIL_OK;
    if (peek(r) < 0) return MIL_OK;
    return bad(r, "more text on the line after the row's closing brace", err);
}

enum mil_status records_next(struct records *r, json_t **row, struct mil_error *err) {
    bool end = false;
    *row = NULL;
    if (r->array)
        TRY(array_separator(r, &end, err));
    else
        skip_space(r);
    if (end || (!r->array && peek(r) < 0)) return MIL_OK;
    if (peek(r) < 0) return bad(r, "the file ends inside the array (cut off?)", err);
    if (peek(r) != '{') return bad(r, "a row must be a JSON object", err);
    TRY(parse_row(r, row, err));
    if (!r->array) {
        enum mil_status st = line_end(r, err);
        if (st != MIL_OK) {
            json_decref(*row);
            *row = NULL;
            return st;
        }
    }
    r->row++;
    return MIL_OK;
}

void records_close(struct records *r) {
    file_unmap(&r->file);
    r->at = 0;
}
