/* SPDX-License-Identifier: Apache-2.0 */
/* hash.c - XXH3-128 by the xxHash library; the digits are those of its canonical (big-endian) form,
 * as `xxhsum -H2` prints them.  The state lives in our own block: MEM_ALIGN is what it needs. */
#include "io/hash.h"

#define XXH_STATIC_LINKING_ONLY
#include <stdio.h>
#include <xxhash.h>

#include "core/mem.h"
#include "io/file.h"

struct hash {
    XXH3_state_t state;
};

struct hash *hash_new(void) {
    struct hash *h = mem_alloc(MEM_IO, 1, sizeof *h);
    if (!h) return NULL;
    XXH3_INITSTATE(&h->state);
    REQUIRE(XXH3_128bits_reset(&h->state) == XXH_OK);
    return h;
}

void hash_add(struct hash *h, const void *bytes, size_t n) {
    if (n) REQUIRE(XXH3_128bits_update(&h->state, bytes, n) == XXH_OK);
}

void hash_hex(const struct hash *h, char out[HASH_HEX]) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&h->state));
    for (size_t i = 0; i < sizeof canonical.digest; i++)
        snprintf(out + 2 * i, 3, "%02x", canonical.digest[i]);
}

void hash_free(struct hash **h) {
    if (!h) return;
    mem_free(*h);
    *h = NULL;
}

enum mil_status hash_file(const char *path, char out[HASH_HEX], struct mil_error *err) {
    struct mapped_file file;
    TRY(file_map(path, &file, err));
    struct hash *h = hash_new();
    if (h) {
        hash_add(h, file.data, file.size);
        hash_hex(h, out);
    }
    file_unmap(&file);
    if (!h) return error_nomem(err, sizeof *h);
    hash_free(&h);
    return MIL_OK;
}
