/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h - what every target shares: the entry point that libFuzzer calls (and replay.c for the
 * committed corpus), and a way to hand bytes to a reader that wants a path. */
#ifndef MIL_TESTS_FUZZ_H
#define MIL_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* An anonymous file with these bytes; path names it for as long as the descriptor is open. */
static inline int bytes_as_file(const uint8_t *data, size_t n, char path[32]) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    REQUIRE(fd >= 0);
    while (n) {
        ssize_t put = write(fd, data, n);
        REQUIRE(put > 0);
        data += put;
        n -= (size_t)put;
    }
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

/* A failure must explain itself. */
static inline void check_error(enum mil_status st, const struct mil_error *err) {
    REQUIRE(st == MIL_OK || (err->status == st && err->message[0]));
}

#endif
