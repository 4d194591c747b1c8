/* SPDX-License-Identifier: Apache-2.0 */
/* sealed.c - see sealed.h.  The checksum is over the texts of the metadata, each with its closing zero, and the
 * bytes of the tensors, in order. */
#include "io/sealed.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "core/str.h"

/* ---- names ---- */

bool sealed_begins_with_hash(const char *name) {
    for (int i = 0; i < HASH_HEX - 1; i++)
        if (!isxdigit((unsigned char)name[i]) || isupper((unsigned char)name[i])) return false;
    return true;
}

bool sealed_is_temporary(const char *name) {
    return str_starts(name, "tmp-") && sealed_begins_with_hash(name + 4) &&
           strstr(name, SEALED_SUFFIX "-");
}

/* ---- writing ---- */

static size_t bytes_of(const struct sealed_part *p) {
    size_t n = dtype_size(p->decl.dtype);
    for (int i = 0; i < p->decl.ndim; i++) n *= (size_t)p->decl.shape[i];
    return n;
}

static enum mil_status checksum(const struct sealed_values *v, const struct sealed_part *parts,
                                size_t n, char out[HASH_HEX], struct mil_error *err) {
    struct hash *h = hash_new();
    if (!h) return error_nomem(err, 0);
    for (size_t i = 0; i < v->n; i++) hash_add(h, v->text[i], strlen(v->text[i]) + 1);
    for (size_t i = 0; i < n; i++) hash_add(h, parts[i].data, bytes_of(&parts[i]));
    hash_hex(h, out);
    hash_free(&h);
    return MIL_OK;
}

enum mil_status sealed_write(const char *path, const struct sealed_values *v,
                             const struct sealed_part *parts, size_t n, struct mil_error *err) {
    struct st_decl decls[SEALED_PARTS];
    char sum[HASH_HEX];
    struct st_writer *w = NULL;
    enum mil_status st;
    REQUIRE(n <= SEALED_PARTS && v->n <= SEALED_VALUES);
    TRY(checksum(v, parts, n, sum, err));
    json_t *metadata = json_object();
    int bad = json_object_set_new(metadata, "checksum", json_string(sum));
    for (size_t i = 0; i < v->n; i++)
        bad |= json_object_set_new(metadata, v->keys[i], json_string(v->text[i]));
    if (bad) TRY_GOTO(error_nomem(err, 0));
    for (size_t i = 0; i < n; i++) decls[i] = parts[i].decl;
    TRY_GOTO(st_writer_new(path, metadata, decls, n, &w, err));
    for (size_t i = 0; i < n; i++)
        TRY_GOTO(st_writer_put(w, parts[i].data, bytes_of(&parts[i]), err));
    st = st_writer_commit(&w, err);
fail:
    st_writer_free(&w);
    json_decref(metadata);
    return st;
}

/* ---- reading ---- */

static enum mil_status broken(const char *path, const char *why, struct mil_error *err) {
    return error_set(err, MIL_INPUT, "%s: %s", path, why);
}

static enum mil_status read_values(const char *path, const struct st_file *f,
                                   struct sealed_values *v, struct mil_error *err) {
    char format[SEALED_VALUE_CAP];
    memcpy(format, v->text[0], sizeof format);
    for (size_t i = 0; i < v->n; i++) {
        const char *value = st_metadata(f, v->keys[i]);
        if (!value || strlen(value) >= SEALED_VALUE_CAP)
            return broken(path, "its metadata is incomplete", err);
        memcpy(v->text[i], value, strlen(value) + 1);
    }
    if (strcmp(v->text[0], format) == 0) return MIL_OK;
    return error_set(err, MIL_INPUT, "%s: is of another format than %s", path, format);
}

enum mil_status sealed_open(const char *path, uint64_t limit, struct sealed_values *v,
                            struct st_file **file, struct mil_error *err) {
    struct stat s;
    *file = NULL;
    if (lstat(path, &s) != 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? MIL_OK
                   : error_errno(err, errno, "%s: cannot look at", path);
    if (!S_ISREG(s.st_mode)) return broken(path, "is not a regular file", err);
    if ((uint64_t)s.st_size > limit)
        return broken(path, "is larger than an entry of this kind can be", err);
    TRY(st_open(path, file, err));
    enum mil_status st = read_values(path, *file, v, err);
    if (st != MIL_OK) st_free(file);
    return st;
}

enum mil_status sealed_check(const char *path, const struct st_file *file,
                             const struct sealed_values *v, const struct sealed_part *parts,
                             size_t n, struct mil_error *err) {
    const char *want = st_metadata(file, "checksum");
    char have[HASH_HEX];
    TRY(checksum(v, parts, n, have, err));
    if (want && strcmp(want, have) == 0) return MIL_OK;
    return broken(path, "the checksum does not fit the content", err);
}
