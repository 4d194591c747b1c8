/* SPDX-License-Identifier: Apache-2.0 */
/* svd_entry.c - a decomposition as a sealed file (io/sealed.h), and the reasons not to believe one.
 *
 *     u [R, m], sigma [R], v [R, n] in F64, index [R] in I64 (positions in the descending spectrum)
 *     metadata: what it is of, and its certificate
 *
 * A request for fewer triplets than R takes the last rows (bottom) or the first (top).  Before any
 * of them is used: the file is a regular one of a size that its shapes explain, the checksum holds,
 * the numbers are finite and in order, the vectors have length 1, and in SAMPLES rows i and columns
 * j of the weight
 *     |(W v_t)_i - s_t u_t,i|, |(W^T u_t)_j - s_t v_t,j| <= (residual + (m + n) eps) s_0   for all t.
 * That is a thousandth of the work of the full certificate, and a file of another matrix fails it in
 * every entry. */
#include "adapt/svd_entry.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/sealed.h"

#define FORMAT "milora-svd-1"
/* A residual beyond this is no certificate that any method of the chain would pass. */
#define RESIDUAL_LIMIT 1e-6

enum { SAMPLES = 16, PARTS = 4 };

/* Metadata, in this order. */
enum {
    META_FORMAT,
    META_WEIGHT,
    META_END,
    META_M,
    META_N,
    META_RANK,
    META_RESIDUAL,
    META_ORTHOGONALITY,
    META_CUT,
    META_SIGMA_MAX,
    META_SECONDS,
    META_SERVED_BY,
    META
};
static const char *const keys[META] = {"format", "weight",    "end",      "m",
                                       "n",      "rank",      "residual", "orthogonality",
                                       "cut",    "sigma_max", "seconds",  "served_by"};

/* ---- names ---- */

enum mil_status svd_entry_weight(const struct svd_matrix *w, char out[HASH_HEX],
                                 struct mil_error *err) {
    struct hash *h = hash_new();
    char head[64];
    if (!h) return error_nomem(err, 0);
    int n = snprintf(head, sizeof head, "%s %lld %lld", dtype_name(w->dtype), (long long)w->m,
                     (long long)w->n);
    hash_add(h, head, (size_t)n + 1);
    hash_add(h, w->data, (size_t)w->m * (size_t)w->n * dtype_size(w->dtype));
    hash_hex(h, out);
    hash_free(&h);
    return MIL_OK;
}

/* A request for the middle, for drawn or chosen triplets is known by the indices it means. */
static enum mil_status index_hash(const int64_t *index, int64_t rank, char out[HASH_HEX],
                                  struct mil_error *err) {
    struct hash *h = hash_new();
    if (!h) return error_nomem(err, 0);
    hash_add(h, index, (size_t)rank * sizeof *index);
    hash_hex(h, out);
    hash_free(&h);
    return MIL_OK;
}

enum mil_status svd_entry_name(const struct svd_matrix *w, const struct svd_request *q,
                               const int64_t *index, struct svd_entry_id *id,
                               char name[SVD_ENTRY_NAME], struct mil_error *err) {
    char set[HASH_HEX] = "";
    id->m = w->m;
    id->n = w->n;
    id->end = q->end == SVD_BOTTOM ? "bottom" : q->end == SVD_TOP ? "top" : "set";
    TRY(svd_entry_weight(w, id->weight, err));
    if (q->end != SVD_BOTTOM && q->end != SVD_TOP) TRY(index_hash(index, q->rank, set, err));
    snprintf(name, SVD_ENTRY_NAME, "%s-%s%s%s" SEALED_SUFFIX, id->weight, id->end, *set ? "-" : "",
             set);
    return MIL_OK;
}

bool svd_entry_is_name(const char *name) {
    if (!sealed_begins_with_hash(name)) return false;
    const char *s = name + HASH_HEX - 1;
    if (strcmp(s, "-bottom" SEALED_SUFFIX) == 0 || strcmp(s, "-top" SEALED_SUFFIX) == 0)
        return true;
    return strncmp(s, "-set-", 5) == 0 && sealed_begins_with_hash(s + 5) &&
           strcmp(s + 5 + HASH_HEX - 1, SEALED_SUFFIX) == 0;
}

uint64_t svd_entry_bytes(int64_t m, int64_t n, int64_t rank) {
    return (uint64_t)(m + n + 2) * (uint64_t)rank * sizeof(double) + SEALED_HEADER_ROOM;
}

/* ---- writing ---- */

/* The four tensors' shapes, for a rank. */
static void parts_of(const struct svd_entry_id *id, int64_t rank, struct sealed_part out[PARTS]) {
    out[0] = (struct sealed_part){.decl = {"u", DT_F64, 2, {rank, id->m}}};
    out[1] = (struct sealed_part){.decl = {"sigma", DT_F64, 1, {rank}}};
    out[2] = (struct sealed_part){.decl = {"v", DT_F64, 2, {rank, id->n}}};
    out[3] = (struct sealed_part){.decl = {"index", DT_I64, 1, {rank}}};
}

static void describe(const struct svd_entry_id *id, const struct svd_result *r,
                     char text[META][SEALED_VALUE_CAP]) {
    const double reals[] = {r->residual, r->orthogonality, r->cut, r->sigma_max, r->seconds};
    const int64_t integers[] = {r->m, r->n, r->rank};
    snprintf(text[META_FORMAT], SEALED_VALUE_CAP, "%s", FORMAT);
    snprintf(text[META_WEIGHT], SEALED_VALUE_CAP, "%s", id->weight);
    snprintf(text[META_END], SEALED_VALUE_CAP, "%s", id->end);
    for (int i = 0; i < 3; i++)
        snprintf(text[META_M + i], SEALED_VALUE_CAP, "%lld", (long long)integers[i]);
    for (int i = 0; i < 5; i++)
        snprintf(text[META_RESIDUAL + i], SEALED_VALUE_CAP, "%.17g", reals[i]);
    snprintf(text[META_SERVED_BY], SEALED_VALUE_CAP, "%s", r->served_by ? r->served_by : "-");
}

enum mil_status svd_entry_write(const char *path, const struct svd_entry_id *id,
                                const int64_t *index, const struct svd_result *r,
                                struct mil_error *err) {
    const void *const data[PARTS] = {r->u, r->sigma, r->v, index};
    struct sealed_values v = {.keys = keys, .n = META};
    struct sealed_part parts[PARTS];
    describe(id, r, v.text);
    parts_of(id, r->rank, parts);
    for (int i = 0; i < PARTS; i++) parts[i].data = data[i];
    return sealed_write(path, &v, parts, PARTS, err);
}

/* ---- reading ---- */

struct entry {
    const char *path;
    struct sealed_values values;
    struct st_file *file;
    int64_t rank;
    const double *u, *sigma, *v;
    const int64_t *index;
    double reals[5]; /* residual, orthogonality, cut, sigma_max, seconds */
};

static enum mil_status broken(const struct entry *e, const char *why, struct mil_error *err) {
    return error_set(err, MIL_INPUT, "%s: %s", e->path, why);
}

/* The data of a tensor that is as declared, aligned; NULL: it is not. */
static const void *tensor(const struct entry *e, const struct st_decl *want) {
    const struct st_tensor *t = st_find(e->file, want->name);
    if (!t || t->dtype != want->dtype || t->ndim != want->ndim) return NULL;
    for (int i = 0; i < want->ndim; i++)
        if (t->shape[i] != want->shape[i]) return NULL;
    return (uintptr_t)t->data % sizeof(double) == 0 ? t->data : NULL;
}

static enum mil_status read_metadata(struct entry *e, const struct svd_entry_id *id,
                                     struct mil_error *err) {
    char(*const text)[SEALED_VALUE_CAP] = e->values.text;
    int64_t k = id->m < id->n ? id->m : id->n, integers[3];
    if (strcmp(text[META_WEIGHT], id->weight) != 0 || strcmp(text[META_END], id->end) != 0)
        return broken(e, "belongs to another weight or set of triplets", err);
    for (int i = 0; i < 3; i++) integers[i] = strtoll(text[META_M + i], NULL, 10);
    if (integers[0] != id->m || integers[1] != id->n || integers[2] < 1 || integers[2] > k)
        return broken(e, "shape or rank do not fit the weight", err);
    e->rank = integers[2];
    for (int i = 0; i < 5; i++) {
        e->reals[i] = strtod(text[META_RESIDUAL + i], NULL);
        if (!isfinite(e->reals[i]) || e->reals[i] < 0)
            return broken(e, "its certificate holds a number that is none", err);
    }
    if (e->reals[0] > RESIDUAL_LIMIT || e->reals[1] > RESIDUAL_LIMIT)
        return broken(e, "its certificate would not pass", err);
    return MIL_OK;
}

static enum mil_status read_tensors(struct entry *e, const struct svd_entry_id *id,
                                    struct mil_error *err) {
    struct sealed_part parts[PARTS];
    bool whole = st_count(e->file) == PARTS;
    parts_of(id, e->rank, parts);
    for (int i = 0; i < PARTS; i++) {
        parts[i].data = tensor(e, &parts[i].decl);
        whole = whole && parts[i].data;
    }
    if (!whole) return broken(e, "its tensors are not u, sigma, v and index of that rank", err);
    e->u = parts[0].data;
    e->sigma = parts[1].data;
    e->v = parts[2].data;
    e->index = parts[3].data;
    return sealed_check(e->path, e->file, &e->values, parts, PARTS, err);
}

/* Where the asked indices begin among the entry's, -1: they are not all there. */
static int64_t offset_of(const struct entry *e, const int64_t *index, int64_t rank) {
    for (int64_t at = 0; at + rank <= e->rank; at++)
        if (e->index[at] == index[0])
            return memcmp(e->index + at, index, (size_t)rank * sizeof *index) == 0 ? at : -1;
    return -1;
}

static enum mil_status copy_out(const struct entry *e, const struct svd_matrix *w, int64_t at,
                                int64_t rank, struct svd_result *out, struct mil_error *err) {
    size_t r = (size_t)rank, m = (size_t)w->m, n = (size_t)w->n;
    *out = (struct svd_result){.m = w->m,
                               .n = w->n,
                               .rank = rank,
                               .u = mem_alloc(MEM_SCRATCH, r * m, sizeof(double)),
                               .sigma = mem_alloc(MEM_SCRATCH, r, sizeof(double)),
                               .v = mem_alloc(MEM_SCRATCH, r * n, sizeof(double)),
                               .residual = e->reals[0],
                               .orthogonality = e->reals[1],
                               .cut = e->reals[2],
                               .sigma_max = e->reals[3],
                               .seconds = e->reals[4],
                               .served_by = "cache"};
    if (!out->u || !out->sigma || !out->v) return error_nomem(err, r * (m + n) * sizeof(double));
    memcpy(out->u, e->u + (size_t)at * m, r * m * sizeof(double));
    memcpy(out->sigma, e->sigma + at, r * sizeof(double));
    memcpy(out->v, e->v + (size_t)at * n, r * n * sizeof(double));
    const char *const *methods = svd_methods();
    for (; *methods; methods++)
        if (strcmp(*methods, e->values.text[META_SERVED_BY]) == 0) out->served_by = *methods;
    return MIL_OK;
}

/* ---- do the triplets belong to the weight? ---- */

static double element(const struct svd_matrix *w, int64_t i) {
    if (w->dtype == DT_BF16) return (double)bf16_to_f32(((const bf16 *)w->data)[i]);
    if (w->dtype == DT_F16) return (double)f16_to_f32(((const f16 *)w->data)[i]);
    if (w->dtype == DT_F32) return (double)((const float *)w->data)[i];
    return ((const double *)w->data)[i];
}

static double dot(const double *x, const double *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

/* Largest error of one sampled line (row i: x = v, y = u; column i: x = u, y = v) over all
 * triplets; line [len] holds the weight's entries.  NaN if any is. */
static double line_error(const double *line, int64_t len, const double *x, const double *y,
                         int64_t ld_y, int64_t i, const struct svd_result *r) {
    double worst = 0;
    for (int64_t t = 0; t < r->rank; t++) {
        double e = fabs(dot(line, x + t * len, len) - r->sigma[t] * y[t * ld_y + i]);
        if (!(e <= worst)) worst = e;
    }
    return worst;
}

static bool lines_agree(const struct svd_matrix *w, const struct svd_result *r, double *line) {
    double scale = r->sigma_max > 0 ? r->sigma_max : 1;
    double limit = (r->residual + (double)(w->m + w->n) * DBL_EPSILON) * scale;
    for (int64_t s = 0; s < SAMPLES; s++) {
        int64_t i = (2 * s + 1) * w->m / (2 * SAMPLES), j = (2 * s + 1) * w->n / (2 * SAMPLES);
        for (int64_t c = 0; c < w->n; c++) line[c] = element(w, i * w->n + c);
        if (!(line_error(line, w->n, r->v, r->u, w->m, i, r) <= limit)) return false;
        for (int64_t c = 0; c < w->m; c++) line[c] = element(w, c * w->n + j);
        if (!(line_error(line, w->m, r->u, r->v, w->n, j, r) <= limit)) return false;
    }
    return true;
}

static bool values_sound(const struct svd_result *r) {
    double above = r->sigma_max * (1 + 1e-5), limit = r->orthogonality + 1e-12;
    for (int64_t t = 0; t < r->rank; t++) {
        const double *u = r->u + t * r->m, *v = r->v + t * r->n;
        if (!(r->sigma[t] >= 0 && r->sigma[t] <= above)) return false;
        if (!(fabs(dot(u, u, r->m) - 1) <= limit && fabs(dot(v, v, r->n) - 1) <= limit))
            return false;
        above = r->sigma[t];
    }
    return true;
}

static enum mil_status check_values(const struct entry *e, const struct svd_matrix *w,
                                    const struct svd_result *r, struct mil_error *err) {
    if (!values_sound(r)) return broken(e, "its triplets are no singular triplets", err);
    int64_t longest = w->m > w->n ? w->m : w->n;
    double *line = mem_alloc(MEM_SCRATCH, (size_t)longest, sizeof *line);
    if (!line) return error_nomem(err, (uint64_t)longest * sizeof *line);
    bool agree = lines_agree(w, r, line);
    mem_free(line);
    return agree ? MIL_OK : broken(e, "its triplets are not those of this weight", err);
}

static enum mil_status read_open(struct entry *e, const struct svd_entry_id *id,
                                 const struct svd_matrix *w, const int64_t *index, int64_t rank,
                                 struct svd_result *out, enum svd_entry_found *found,
                                 struct mil_error *err) {
    TRY(read_metadata(e, id, err));
    TRY(read_tensors(e, id, err));
    *found = SVD_ENTRY_SMALLER;
    if (e->rank < rank) return MIL_OK;
    int64_t at = offset_of(e, index, rank);
    if (at < 0) return broken(e, "its indices are not those of its name", err);
    TRY(copy_out(e, w, at, rank, out, err));
    *found = SVD_ENTRY_SERVES;
    return check_values(e, w, out, err);
}

enum mil_status svd_entry_read(const char *path, const struct svd_entry_id *id,
                               const struct svd_matrix *w, const int64_t *index, int64_t rank,
                               struct svd_result *out, enum svd_entry_found *found,
                               struct mil_error *err) {
    struct entry e = {.path = path, .values = {keys, META, {FORMAT}}};
    uint64_t limit = svd_entry_bytes(id->m, id->n, id->m < id->n ? id->m : id->n);
    memset(out, 0, sizeof *out);
    *found = SVD_ENTRY_SERVES;
    TRY(sealed_open(path, limit, &e.values, &e.file, err));
    if (!e.file) {
        *found = SVD_ENTRY_ABSENT;
        return MIL_OK;
    }
    enum mil_status st = read_open(&e, id, w, index, rank, out, found, err);
    if (st != MIL_OK) svd_release(out);
    st_free(&e.file);
    return st;
}

int64_t svd_entry_rank(const char *path) {
    struct sealed_values v = {keys, META, {FORMAT}};
    struct st_file *f = NULL;
    int64_t rank = 0;
    if (sealed_open(path, UINT64_MAX, &v, &f, NULL) != MIL_OK || !f) return 0;
    const struct st_tensor *sigma = st_find(f, "sigma");
    if (sigma && sigma->ndim == 1) rank = sigma->shape[0];
    st_free(&f);
    return rank;
}
