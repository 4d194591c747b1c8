/* SPDX-License-Identifier: Apache-2.0 */
/* tensor.c - views of matrices, and matrices taken from an arena.  A view of a tensor without data
 * (sizing mode) has none either. */
#include <stdarg.h>
#include <stdio.h>

#include "backend/backend.h"

static void *offset(struct tensor t, int64_t elements) {
    return t.data ? (char *)t.data + elements * (int64_t)dtype_size(t.dtype) : NULL;
}

struct tensor tensor_rows(struct tensor t, int64_t begin, int64_t n) {
    REQUIRE(begin >= 0 && n >= 0 && begin <= t.rows && n <= t.rows - begin);
    return (struct tensor){offset(t, begin * t.ld), t.dtype, n, t.cols, t.ld};
}

struct tensor tensor_cols(struct tensor t, int64_t begin, int64_t n) {
    REQUIRE(begin >= 0 && n >= 0 && begin <= t.cols && n <= t.cols - begin);
    return (struct tensor){offset(t, begin), t.dtype, t.rows, n, t.ld};
}

struct tensor tensor_take(struct arena *a, enum dtype dtype, int64_t rows, int64_t cols,
                          const char *fmt, ...) {
    char name[sizeof((struct plan_entry *)0)->name];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    size_t n, bytes;
    REQUIRE(rows >= 0 && cols >= 0 && checked_mul((size_t)rows, (size_t)cols, &n));
    REQUIRE(checked_mul(n, dtype_size(dtype), &bytes));
    return tensor_of(arena_take(a, bytes, "%s", name), dtype, rows, cols);
}
