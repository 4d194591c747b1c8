/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - runs a target over the files of a directory, and over every prefix of each and each
 * with single bytes changed: what `make check` does with the committed seeds, without a fuzzer. */
#include <string.h>

#include "core/mem.h"
#include "core/str.h"
#include "fuzz.h"
#include "io/file.h"

#define PREFIXES 256
#define CHANGES 512

/* Inputs in blocks of exactly their size, so that a sanitizer sees a read past the end. */
static void run(const char *bytes, size_t n) {
    uint8_t *copy = malloc(n ? n : 1);
    REQUIRE(copy);
    if (n) memcpy(copy, bytes, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void run_variants(char *bytes, size_t n) {
    static const char values[] = {0, 1, '"', '{', '}', '\\', 0x7f, (char)0x80, (char)0xff};
    run(bytes, n);
    size_t step = n / PREFIXES + 1;
    for (size_t cut = 0; cut < n; cut += step) run(bytes, cut);
    step = n * sizeof values / CHANGES + 1;
    for (size_t k = 0; k < n * sizeof values; k += step) {
        char was = bytes[k / sizeof values];
        bytes[k / sizeof values] = values[k % sizeof values];
        run(bytes, n);
        bytes[k / sizeof values] = was;
    }
}

int main(int argc, char **argv) {
    struct mil_error err = {0};
    char **names, path[PATH_CAP];
    size_t n = 0;
    if (argc != 2 || dir_list(argv[1], &names, &n, &err) != MIL_OK) {
        fprintf(stderr, "usage: replay CORPUS_DIRECTORY %s\n", err.message);
        return 2;
    }
    for (size_t i = 0; i < n; i++) {
        struct str bytes = {0};
        REQUIRE(path_join(path, argv[1], names[i], NULL) == MIL_OK);
        REQUIRE(file_read(path, (size_t)1 << 24, &bytes, NULL) == MIL_OK);
        run_variants(bytes.data, bytes.len);
        str_release(&bytes);
    }
    dir_list_free(names, n);
    printf("%zu seeds\n", n);
    return n ? 0 : 1;
}
