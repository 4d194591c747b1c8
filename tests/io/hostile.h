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

/* Write s as path, and empty it. */
static inline void flush_to(const char *file, struct str *s) {
    struct mil_error err = {0};
    assert_ok(str_status(s, &err));
    assert_ok(file_write(file, str_c(s), s->len, &err));
    str_release(s);
}

#endif
