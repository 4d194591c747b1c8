/* SPDX-License-Identifier: Apache-2.0 */
/* hostile.h - building broken files byte by byte for the readers' tests. */
#ifndef MIL_TESTS_IO_HOSTILE_H
#define MIL_TESTS_IO_HOSTILE_H

#include "check.h"
#include "core/str.h"
#include "io/file.h"

static const char *dir; /* a fresh directory for each test */
static char path[PATH_CAP];

/* cmocka set-up and tear-down: dir, and path as "<dir>/<FILE_NAME>". */
static int set_up(void **state) {
    (void)state;
    dir = test_tmp_dir();
    snprintf(path, sizeof path, "%s/%s", dir, FILE_NAME);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return dir_remove(dir, NULL) == MIL_OK ? 0 : -1;
}

static inline void put_le(struct str *s, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) str_addc(s, (char)(v >> 8 * i & 0xff));
}

/* Not file_write: thousands of broken files need no fsync each. */
static inline void put_bytes(const char *file, const void *bytes, size_t n) {
    unlink(file); /* ext4 flushes what replaces a file by truncating it */
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(n ? fwrite(bytes, 1, n, f) : 0, n);
    assert_int_equal(fclose(f), 0);
}

/* Write s as that file, and empty it. */
static inline void flush_to(const char *file, struct str *s) {
    assert_false(s->failed);
    put_bytes(file, str_c(s), s->len);
    str_release(s);
}

#endif
