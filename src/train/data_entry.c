/* SPDX-License-Identifier: Apache-2.0 */
/* data_entry.c - see data_entry.h.  A sealed file (io/sealed.h):
 *
 *     begin I64 [samples + 1], ids I32 [tokens], labels U8 [tokens];  metadata: the members of META below
 *
 * A file is copied first and checked in the copy: what was checked is what is used, whoever writes to
 * the file meanwhile.  Numbers that follow from the tensors are computed, not believed. */
#include "train/data_entry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/sealed.h"
#include "text/dataset_split.h"

#define FORMAT "milora-data-1"

enum { SLICES = 256, PARTS = 3 };

enum { META_FORMAT, META_KEY, META_ROWS_FORMAT, META_COUNTS, META = META_COUNTS + 5 };
static const char *const names[META] = {
    "format",    "key",          "rows_format",        "rows",
    "truncated", "dropped_long", "dropped_unlabelled", "longest"};

/* ---- key ---- */

static void add_text(struct hash *h, const char *text) {
    hash_add(h, text, strlen(text) + 1);
}

static void add_number(struct hash *h, int64_t value) {
    hash_add(h, &value, sizeof value);
}

/* The bytes of a file that loading `rows` rows of it looks at; all of it where that is not plain. */
static size_t bytes_of_rows(struct records *r, int64_t rows) {
    struct row_slice slices[SLICES];
    while (rows > 0) {
        size_t cap = rows < SLICES ? (size_t)rows : SLICES;
        size_t found = records_split(r, slices, cap, SIZE_MAX);
        if (found < cap) return r->file.size;
        rows -= (int64_t)found;
    }
    return r->at;
}

static enum mil_status add_source(struct hash *h, const struct dataset_source *s, uint64_t *bytes,
                                  struct mil_error *err) {
    struct records r;
    TRY(records_open(&r, s->path, err));
    bool all = s->limit < 0 || s->skip > INT64_MAX - s->limit;
    size_t n = all ? r.file.size : bytes_of_rows(&r, s->skip + s->limit);
    add_text(h, s->format ? s->format : "");
    add_number(h, s->limit);
    add_number(h, s->skip);
    add_number(h, (int64_t)n);
    hash_add(h, r.file.data, n);
    *bytes += n;
    records_close(&r);
    return MIL_OK;
}

enum mil_status data_entry_key(const struct data_request *q, char key[HASH_HEX], uint64_t *bytes,
                               struct mil_error *err) {
    const struct dataset_options *o = q->options;
    char identity[HASH_HEX];
    struct hash *h = hash_new();
    enum mil_status st = h ? MIL_OK : error_nomem(err, 0);
    *bytes = 0;
    if (h) {
        tokenizer_identity(q->tokenizer, identity);
        add_text(h, FORMAT " " MILORA_VERSION);
        add_number(h, DATASET_REVISION);
        add_text(h, identity);
        add_text(h, template_name(o->template_));
        add_number(h, o->train_on_inputs);
        add_number(h, o->max_length);
        add_number(h, o->on_too_long);
    }
    for (size_t i = 0; i < q->n && st == MIL_OK; i++)
        st = add_source(h, &q->sources[i], bytes, err);
    if (st == MIL_OK) hash_hex(h, key);
    hash_free(&h);
    return st;
}

/* ---- names ---- */

void data_entry_name(const char key[HASH_HEX], char name[DATA_ENTRY_NAME]) {
    snprintf(name, DATA_ENTRY_NAME, "%s" SEALED_SUFFIX, key);
}

bool data_entry_is_name(const char *name) {
    return sealed_begins_with_hash(name) && strcmp(name + HASH_HEX - 1, SEALED_SUFFIX) == 0;
}

/* ---- writing ---- */

uint64_t data_entry_bytes(const struct dataset *d) {
    return (uint64_t)d->begin[d->n] * (sizeof *d->ids + sizeof *d->labels) +
           (uint64_t)(d->n + 1) * sizeof *d->begin + SEALED_HEADER_ROOM;
}

static void parts_of(const struct dataset *d, struct sealed_part out[PARTS]) {
    int64_t tokens = d->begin[d->n];
    out[0] = (struct sealed_part){{"begin", DT_I64, 1, {d->n + 1}}, d->begin};
    out[1] = (struct sealed_part){{"ids", DT_I32, 1, {tokens}}, d->ids};
    out[2] = (struct sealed_part){{"labels", DT_U8, 1, {tokens}}, d->labels};
}

enum mil_status data_entry_write(const char *path, const char key[HASH_HEX],
                                 const struct dataset *d, struct mil_error *err) {
    const struct dataset_counts *c = &d->counts;
    const int64_t counts[] = {c->rows, c->truncated, c->dropped_long, c->dropped_unlabelled,
                              c->longest};
    struct sealed_values v = {.keys = names, .n = META};
    struct sealed_part parts[PARTS];
    snprintf(v.text[META_FORMAT], SEALED_VALUE_CAP, "%s", FORMAT);
    snprintf(v.text[META_KEY], SEALED_VALUE_CAP, "%s", key);
    snprintf(v.text[META_ROWS_FORMAT], SEALED_VALUE_CAP, "%s", d->format);
    for (int i = META_COUNTS; i < META; i++)
        snprintf(v.text[i], SEALED_VALUE_CAP, "%" PRId64, counts[i - META_COUNTS]);
    parts_of(d, parts);
    return sealed_write(path, &v, parts, PARTS, err);
}

/* ---- reading ---- */

struct entry {
    const char *path;
    struct st_file *file;
    struct sealed_values values;
};

static enum mil_status broken(const struct entry *e, const char *why, struct mil_error *err) {
    return error_set(err, MIL_INPUT, "%s: %s", e->path, why);
}

/* A tensor of one dimension; NULL: it is not there, or of another type or shape. */
static const struct st_tensor *vector(const struct entry *e, const char *name, enum dtype dtype) {
    const struct st_tensor *t = st_find(e->file, name);
    return t && t->dtype == dtype && t->ndim == 1 && t->shape[0] > 0 ? t : NULL;
}

static enum mil_status copy_tensors(struct entry *e, struct dataset *out, struct mil_error *err) {
    const struct st_tensor *begin = vector(e, "begin", DT_I64), *ids = vector(e, "ids", DT_I32),
                           *labels = vector(e, "labels", DT_U8);
    if (!begin || !ids || !labels || st_count(e->file) != 3 || begin->shape[0] < 2 ||
        ids->shape[0] != labels->shape[0])
        return broken(e, "its tensors are not begin, ids and labels of one length", err);
    out->n = begin->shape[0] - 1;
    out->cap_samples = begin->shape[0];
    out->cap_tokens = ids->shape[0];
    out->begin = mem_alloc(MEM_TEXT, begin->bytes, 1);
    out->ids = mem_alloc(MEM_TEXT, ids->bytes, 1);
    out->labels = mem_alloc(MEM_TEXT, labels->bytes, 1);
    if (!out->begin || !out->ids || !out->labels)
        return error_nomem(err, begin->bytes + ids->bytes + labels->bytes);
    memcpy(out->begin, begin->data, begin->bytes);
    memcpy(out->ids, ids->data, ids->bytes);
    memcpy(out->labels, labels->data, labels->bytes);
    return MIL_OK;
}

/* The bounds of the samples: before anything else is computed from them. */
static bool bounds_sound(const struct dataset *d, int64_t max_length) {
    if (d->begin[0] != 0 || d->begin[d->n] != d->cap_tokens) return false;
    for (int64_t i = 0; i < d->n; i++) {
        int64_t from = d->begin[i], to = d->begin[i + 1];
        if (from < 0 || to <= from || to > d->cap_tokens || to - from > max_length) return false;
    }
    return true;
}

/* Token ids and labels as dataset_load makes them; counts what follows from them. */
static bool tokens_sound(struct dataset *d, int32_t vocab) {
    struct dataset_counts *c = &d->counts;
    for (int64_t i = 0; i < d->n; i++) {
        int64_t from = d->begin[i], to = d->begin[i + 1], supervised = 0;
        bool sound = d->labels[from] == 0;
        for (int64_t t = from; t < to; t++) {
            sound = sound && d->labels[t] <= 1 && d->ids[t] >= 0 && d->ids[t] < vocab;
            supervised += d->labels[t];
        }
        if (!sound) return false;
        c->supervised += supervised;
    }
    c->samples = d->n;
    c->tokens = d->begin[d->n];
    return true;
}

static bool number(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return !errno && end != text && !*end && *out >= 0;
}

static bool counts_sound(const struct entry *e, struct dataset *d) {
    struct dataset_counts *c = &d->counts;
    int64_t *const fields[] = {&c->rows, &c->truncated, &c->dropped_long, &c->dropped_unlabelled,
                               &c->longest};
    for (int i = META_COUNTS; i < META; i++)
        if (!number(e->values.text[i], fields[i - META_COUNTS])) return false;
    return c->rows >= c->samples && c->truncated <= c->samples && c->dropped_long <= c->rows &&
           c->dropped_unlabelled <= c->rows &&
           c->dropped_long + c->dropped_unlabelled == c->rows - c->samples;
}

static bool format_known(const char *name) {
    for (const char *const *f = dataset_formats(); *f; f++)
        if (strcmp(*f, name) == 0) return true;
    return false;
}

static enum mil_status read_open(struct entry *e, const char key[HASH_HEX],
                                 const struct data_request *q, struct dataset *out,
                                 struct mil_error *err) {
    const char *format = e->values.text[META_ROWS_FORMAT];
    struct sealed_part parts[PARTS];
    if (strcmp(e->values.text[META_KEY], key) != 0) return broken(e, "holds other data", err);
    TRY(copy_tensors(e, out, err));
    if (!bounds_sound(out, q->options->max_length))
        return broken(e, "the bounds of its samples are impossible", err);
    parts_of(out, parts);
    TRY(sealed_check(e->path, e->file, &e->values, parts, PARTS, err));
    if (!tokens_sound(out, tokenizer_vocab_size(q->tokenizer)))
        return broken(e, "it holds an impossible token or label", err);
    if (!counts_sound(e, out) || !format_known(format))
        return broken(e, "its counts are impossible", err);
    snprintf(out->format, sizeof out->format, "%.31s", format);
    return MIL_OK;
}

enum mil_status data_entry_read(const char *path, const char key[HASH_HEX],
                                const struct data_request *q, struct dataset *out, bool *found,
                                struct mil_error *err) {
    struct entry e = {.path = path, .values = {names, META, {FORMAT}}};
    memset(out, 0, sizeof *out);
    *found = true;
    TRY(sealed_open(path, UINT64_MAX, &e.values, &e.file, err));
    *found = e.file != NULL;
    if (!*found) return MIL_OK;
    enum mil_status st = read_open(&e, key, q, out, err);
    st_free(&e.file);
    if (st != MIL_OK) dataset_release(out);
    return st;
}
