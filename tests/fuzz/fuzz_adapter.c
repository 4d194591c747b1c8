/* SPDX-License-Identifier: Apache-2.0 */
/* An adapter directory as one input: adapter_config.json, NUL, milora.json (may be empty: then
 * there is none), NUL, adapter_model.safetensors.  Whatever is accepted has finite factors of the
 * shapes it says. */
#include <math.h>
#include <string.h>

#include "adapt/adapter.h"
#include "fuzz.h"
#include "io/file.h"

static char dir[] = "/tmp/milora-fuzz-XXXXXX";

static void remove_dir(void) {
    dir_remove(dir, NULL);
}

/* Plain writing: nobody needs these files after the call. */
static void put(const char *name, const uint8_t *data, size_t n) {
    char path[PATH_CAP];
    REQUIRE(path_join(path, dir, name, NULL) == MIL_OK);
    unlink(path);
    if (!n) return;
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

static void check_finite(const float *x, int64_t n) {
    for (int64_t i = 0; x && i < n; i++) REQUIRE(isfinite(x[i]));
}

/* Length of the part up to a NUL; *data and *n move past it. */
static size_t part(const uint8_t **data, size_t *n) {
    const uint8_t *end = memchr(*data, 0, *n);
    size_t length = end ? (size_t)(end - *data) : *n;
    size_t used = end ? length + 1 : length;
    *data += used;
    *n -= used;
    return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static bool made;
    struct mil_error err = {0};
    struct adapter *a;
    if (!made) {
        REQUIRE(mkdtemp(dir));
        atexit(remove_dir);
        made = true;
    }
    static const char *const names[] = {"adapter_config.json", "milora.json"};
    for (int i = 0; i < 2 && n; i++) {
        const uint8_t *begin = data;
        put(names[i], begin, part(&data, &n));
    }
    put("adapter_model.safetensors", data, n);
    enum mil_status st = adapter_load(dir, NULL, &a, &err);
    check_error(st, &err);
    for (size_t i = 0; st == MIL_OK && i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        check_finite(d->a0, d->r * d->n);
        check_finite(d->da, d->r * d->n);
        check_finite(d->b0, d->m * d->r);
        check_finite(d->db, d->m * d->r);
    }
    adapter_free(&a);
    return 0;
}
