/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is accepted must be readable in full, found by name, and writable again. */
#include "fuzz.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char path[32];
    struct mil_error err = {0};
    struct st_file *f;
    int fd = bytes_as_file(data, n, path);
    enum mil_status st = st_open(path, &f, &err);
    check_error(st, &err);
    unsigned sum = 0;
    for (size_t i = 0; st == MIL_OK && i < st_count(f); i++) {
        const struct st_tensor *t = st_at(f, i);
        REQUIRE(st_find(f, t->name) == t && t->bytes <= n);
        const unsigned char *bytes = t->data;
        for (size_t k = 0; k < t->bytes; k++) sum += bytes[k];
    }
    st_free(&f);
    close(fd);
    return sum == UINT32_MAX ? -1 : 0; /* keeps the sum */
}
