/* SPDX-License-Identifier: Apache-2.0 */
/* npy.c - "\x93NUMPY" 1 0 | u16 header length | a Python dict as text, padded with spaces and ended
 * by a newline so that the data begin at a multiple of 64 | the elements.
 *
 * The header is read as what NumPy writes: the three keys in any order, in this spelling; a general
 * Python literal parser would buy nothing. */
#include "io/npy.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "io/file.h"

#define MAGIC "\x93NUMPY\x01"
#define PREFIX 10 /* magic, version, length */
#define MAX_DIMS 4

static enum mil_status count_bytes(const char *path, int ndim, const int64_t *shape, size_t *bytes,
                                   struct mil_error *err) {
    size_t n = sizeof(float);
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0 || !checked_mul(n, (size_t)shape[i], &n))
            return error_set(err, MIL_INPUT, "%s: the shape's product overflows", path);
    *bytes = n;
    return MIL_OK;
}

enum mil_status npy_write_f32(const char *path, const float *data, int ndim, const int64_t *shape,
                              struct mil_error *err) {
    struct str head = {0};
    size_t bytes = 0;
    REQUIRE(ndim >= 0 && ndim <= MAX_DIMS);
    TRY(count_bytes(path, ndim, shape, &bytes, err));
    str_addn(&head, MAGIC "\0\0", PREFIX); /* the literal's own NUL is the tenth byte */
    str_add(&head, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < ndim; i++)
        str_addf(&head, "%s%lld%s", i ? " " : "", (long long)shape[i],
                 i + 1 < ndim || ndim == 1 ? "," : "");
    str_add(&head, "), }");
    while (!head.failed && head.len % 64 != 63) str_addc(&head, ' ');
    str_addc(&head, '\n');
    struct atomic_file a = {0};
    enum mil_status st = str_status(&head, err);
    if (st == MIL_OK) {
        head.data[8] = (char)(head.len - PREFIX);
        head.data[9] = (char)((head.len - PREFIX) >> 8);
        st = atomic_open(&a, path, err);
    }
    if (st == MIL_OK) st = atomic_write(&a, head.data, head.len, err);
    if (st == MIL_OK) st = atomic_write(&a, data, bytes, err);
    if (st == MIL_OK) st = atomic_commit(&a, err);
    atomic_abort(&a);
    str_release(&head);
    return st;
}

/* The text behind "'key':" in the header, or NULL. */
static const char *value_of(const char *head, const char *key) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(head, quoted);
    if (!at) return NULL;
    at += strlen(quoted);
    while (*at == ' ') at++;
    return at;
}

/* One non-negative number of the shape; NULL when there is none or it leaves 63 bits. */
static const char *parse_dim(const char *p, int64_t *out) {
    int64_t v = 0;
    if (!isdigit((unsigned char)*p)) return NULL;
    for (; isdigit((unsigned char)*p); p++)
        if (!checked_mul_i64(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v)) return NULL;
    *out = v;
    return p;
}

static enum mil_status parse_shape(const char *path, const char *p, int *ndim, int64_t shape[4],
                                   struct mil_error *err) {
    *ndim = 0;
    if (!p || *p++ != '(') goto bad;
    while (*p != ')') {
        if (*ndim == MAX_DIMS)
            return error_set(err, MIL_UNSUPPORTED, "%s: more than %d dimensions", path, MAX_DIMS);
        p = parse_dim(p, &shape[(*ndim)++]);
        if (!p || (*p != ',' && *p != ')')) goto bad;
        if (*p == ',') p++;
        while (*p == ' ') p++;
    }
    return MIL_OK;
bad:
    return error_set_at(err, MIL_INPUT, PREFIX, "%s: 'shape' is not a tuple of sizes", path);
}

static enum mil_status parse_header(const char *path, const struct mapped_file *m, size_t *begin,
                                    int *ndim, int64_t shape[4], struct mil_error *err) {
    if (m->size < PREFIX || memcmp(m->data, MAGIC, 6) != 0)
        return error_set_at(err, MIL_INPUT, 0, "%s: not a NumPy file", path);
    if (m->data[6] != 1 || m->data[7] != 0)
        return error_set_at(err, MIL_UNSUPPORTED, 6, "%s: NumPy format %u.%u, must be 1.0", path,
                            m->data[6], m->data[7]);
    size_t n = m->data[8] | (size_t)m->data[9] << 8;
    if (n > m->size - PREFIX)
        return error_set_at(err, MIL_INPUT, 8,
                            "%s: header of %zu bytes, but only %zu follow (cut off?)", path, n,
                            m->size - PREFIX);
    char *head = mem_strndup(MEM_IO, (const char *)m->data + PREFIX, n);
    if (!head) return error_nomem(err, n);
    const char *descr = value_of(head, "descr"), *order = value_of(head, "fortran_order");
    enum mil_status st;
    if (!descr || strncmp(descr, "'<f4'", 5) != 0)
        st = error_set(err, MIL_UNSUPPORTED, "%s: element type must be '<f4' (float32)", path);
    else if (!order || strncmp(order, "False", 5) != 0)
        st = error_set(err, MIL_UNSUPPORTED, "%s: must be in C order", path);
    else
        st = parse_shape(path, value_of(head, "shape"), ndim, shape, err);
    mem_free(head);
    *begin = PREFIX + n;
    return st;
}

static enum mil_status read_mapped(const char *path, const struct mapped_file *m, float **data,
                                   int *ndim, int64_t shape[4], struct mil_error *err) {
    size_t begin = 0, bytes = 0;
    TRY(parse_header(path, m, &begin, ndim, shape, err));
    TRY(count_bytes(path, *ndim, shape, &bytes, err));
    if (bytes != m->size - begin)
        return error_set_at(err, MIL_INPUT, (int64_t)begin,
                            "%s: the shape needs %zu bytes of data, the file has %zu", path, bytes,
                            m->size - begin);
    *data = mem_alloc(MEM_OTHER, bytes, 1);
    if (!*data) return error_nomem(err, bytes);
    memcpy(*data, m->data + begin, bytes);
    return MIL_OK;
}

enum mil_status npy_read_f32(const char *path, float **data, int *ndim, int64_t shape[4],
                             struct mil_error *err) {
    struct mapped_file m;
    *data = NULL;
    TRY(file_map(path, &m, err));
    enum mil_status st = read_mapped(path, &m, data, ndim, shape, err);
    file_unmap(&m);
    return st;
}
