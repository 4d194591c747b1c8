/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is accepted must be readable in full and found by name. */
#include <string.h>

#include "fuzz.h"
#include "io/gguf.h"

static unsigned sum;

static void read_bytes(const void *data, size_t n) {
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) sum += p[i];
}

static void read_kv(const struct gguf_file *f, const struct gguf_kv *kv) {
    char key[65536];
    memcpy(key, kv->key.data, kv->key.n);
    key[kv->key.n] = 0;
    REQUIRE(gguf_find(f, key) == kv);
    int64_t i;
    double d;
    bool b;
    struct gguf_str s;
    sum += gguf_get_i64(f, key, &i) + gguf_get_f64(f, key, &d) + gguf_get_bool(f, key, &b);
    sum += gguf_get_str(f, key, &s);
    for (uint64_t k = 0; k < kv->n; k++) {
        if (kv->strings)
            read_bytes(kv->strings[k].data, kv->strings[k].n);
        else
            sum += gguf_value_f64(kv, k) > 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char path[32];
    struct mil_error err = {0};
    struct gguf_file *f;
    int fd = bytes_as_file(data, n, path);
    enum mil_status st = gguf_open(path, &f, &err);
    check_error(st, &err);
    for (size_t i = 0; st == MIL_OK && i < gguf_kv_count(f); i++) read_kv(f, gguf_kv_at(f, i));
    for (size_t i = 0; st == MIL_OK && i < gguf_tensor_count(f); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(f, i);
        REQUIRE(t->bytes <= n);
        read_bytes(t->data, t->bytes);
    }
    gguf_free(&f);
    close(fd);
    return sum == UINT32_MAX ? -1 : 0;
}
