/* SPDX-License-Identifier: Apache-2.0 */
/* dataset.c - see dataset.h.  The bounds of a batch of rows are found in one pass; the rows are then
 * parsed, rendered and tokenised in parallel, and appended in their order, so the result does not
 * depend on the number of threads.  A row that is not what it looked like is read again by
 * io/records.h alone, which knows what to say about it.  Memory: a batch, and the samples.
 *
 * Labels of a sample (s: supervised, unless train_on_inputs):
 *   BOS  prompt ...  assistant header | answer <end> | newline  EOS
 *                                       s s s  s                 s
 * EOS is not added where the answer already ends with it, nor after a turn of the user's.  A sample
 * that is cut loses its tail with the EOS: a cut answer must not teach the model to stop there. */
#include "text/dataset.h"

#include <string.h>

#include "core/mem.h"
#include "core/threads.h"
#include "io/json.h"
#include "io/records.h"
#include "text/bpe.h" /* tokens_add */
#include "text/dataset_rows.h"
#include "text/dataset_split.h"

#define BATCH 256                     /* rows in memory at once, */
#define BATCH_BYTES ((size_t)4 << 20) /* or so many bytes of them and one row more */
#define GRAIN 4                       /* rows a thread takes at once */

struct sample {
    bool unread; /* the slice is no row: nothing below is set */
    struct row row;
    struct rendered rendered;
    struct tokens tokens;
    uint8_t *labels;
    size_t cap_labels;
    bool labelled; /* the row has something to learn */
    enum mil_status status;
    struct mil_error err;
};

struct loader {
    const struct tokenizer *tok;
    const struct dataset_options *options;
    struct sample *batch;
    struct row_slice *slices;
    struct tokenizer_scratch **scratch; /* one a thread, made when it first has a row */
    int n_scratch;
    const struct records *records; /* the source that is being read */
    const struct row_format *format;
    struct dataset *out;
};

static bool has_answer(const struct row *r) {
    if (r->text) return *r->text != 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->messages[i].role == ROLE_ASSISTANT && *r->messages[i].content) return true;
    return false;
}

static enum mil_status tokenize(const struct loader *l, struct sample *s, struct mil_error *err) {
    if (!s->row.text)
        return template_encode(l->options->template_, l->tok, s->row.messages, s->row.n, false,
                               &s->rendered, &s->tokens, err);
    s->rendered.n_spans = 0; /* data, not a template: special tokens in it stay text */
    return tokenizer_encode(l->tok, s->row.text, strlen(s->row.text), TOKENIZE_ADD_SPECIAL,
                            &s->tokens, err);
}

/* Mark what is learned; *last is the last marked token, or -1. */
static void label_spans(struct sample *s, int64_t *last) {
    size_t span = 0;
    *last = -1;
    for (size_t i = 0; i < s->tokens.n; i++) {
        size_t at = (size_t)s->tokens.starts[i];
        while (span < s->rendered.n_spans && at >= s->rendered.spans[span].end) span++;
        bool in =
            s->row.text || (span < s->rendered.n_spans && at >= s->rendered.spans[span].begin);
        s->labels[i] = in;
        if (in) *last = (int64_t)i;
    }
}

static enum mil_status label(const struct loader *l, struct sample *s, struct mil_error *err) {
    if (s->tokens.n + 1 > s->cap_labels) {
        size_t cap = 2 * s->tokens.n + 64;
        uint8_t *grown = mem_realloc(MEM_TEXT, s->labels, cap, 1);
        if (!grown) return error_nomem(err, cap);
        s->labels = grown;
        s->cap_labels = cap;
    }
    int64_t last;
    label_spans(s, &last);
    int32_t eos = tokenizer_eos(l->tok);
    struct tokens *t = &s->tokens;
    size_t length = s->row.text ? strlen(s->row.text) : s->rendered.text.len;
    bool ends = s->row.text || s->row.messages[s->row.n - 1].role == ROLE_ASSISTANT;
    bool has_own = t->n > 0 && t->ids[t->n - 1] == eos && (size_t)t->starts[t->n - 1] == length;
    bool ends_in_eos = last >= 0 && !s->row.text && t->ids[last] == eos;
    if (has_own && ends_in_eos && (size_t)last + 2 == t->n) {
        t->n--;
    } else if (ends && has_own) {
        s->labels[t->n - 1] = 1;
    } else if (ends && !ends_in_eos) {
        TRY(tokens_add(t, eos, (int64_t)length, err));
        s->labels[t->n - 1] = 1;
    }
    if (l->options->train_on_inputs) memset(s->labels, 1, t->n);
    if (t->n) s->labels[0] = 0; /* nothing stands before it to predict it from */
    return MIL_OK;
}

/* Parsed, rendered, tokenised, labelled; json is taken over. */
static void encode_row(struct loader *l, struct sample *s, json_t *json) {
    int thread = threads_index();
    REQUIRE(thread < l->n_scratch);
    s->status =
        l->scratch[thread] ? MIL_OK : tokenizer_scratch_new(l->tok, &l->scratch[thread], &s->err);
    s->tokens.scratch = l->scratch[thread];
    if (s->status == MIL_OK) s->status = row_parse(l->format, json, &s->row, &s->err);
    s->labelled = s->status == MIL_OK && has_answer(&s->row);
    if (s->status == MIL_OK) s->status = tokenize(l, s, &s->err);
    if (s->status == MIL_OK) s->status = label(l, s, &s->err);
    row_release(&s->row);
    json_decref(json);
}

static void encode_rows(void *ctx, int64_t begin, int64_t end) {
    struct loader *l = ctx;
    for (int64_t i = begin; i < end; i++) {
        const struct row_slice *slice = &l->slices[i];
        struct sample *s = &l->batch[i];
        const char *text = (const char *)l->records->file.data + slice->begin;
        json_t *json = NULL;
        size_t used = 0;
        enum mil_status st = json_read_prefix(text, slice->n, "", &json, &used, NULL);
        s->unread = st != MIL_OK || used != slice->n;
        if (s->unread)
            json_decref(json);
        else
            encode_row(l, s, json);
    }
}

static enum mil_status reserve(struct dataset *d, int64_t tokens, struct mil_error *err) {
    if (d->begin[d->n] + tokens > d->cap_tokens) {
        int64_t cap = d->cap_tokens ? d->cap_tokens : 4096;
        while (cap < d->begin[d->n] + tokens) cap *= 2;
        int32_t *ids = mem_realloc(MEM_TEXT, d->ids, (size_t)cap, sizeof *ids);
        if (ids) d->ids = ids;
        uint8_t *labels = mem_realloc(MEM_TEXT, d->labels, (size_t)cap, 1);
        if (labels) d->labels = labels;
        if (!ids || !labels) return error_nomem(err, (uint64_t)cap * sizeof *ids);
        d->cap_tokens = cap;
    }
    if (d->n + 2 > d->cap_samples) {
        int64_t cap = 2 * d->cap_samples;
        int64_t *grown = mem_realloc(MEM_TEXT, d->begin, (size_t)cap, sizeof *grown);
        if (!grown) return error_nomem(err, (uint64_t)cap * sizeof *grown);
        d->begin = grown;
        d->cap_samples = cap;
    }
    return MIL_OK;
}

/* Keep, cut, drop or refuse one sample. */
static enum mil_status add_sample(struct loader *l, const struct sample *s, struct mil_error *err) {
    struct dataset *d = l->out;
    const struct dataset_options *o = l->options;
    int64_t n = (int64_t)s->tokens.n;
    bool refuse = o->on_too_long == TOO_LONG_ERROR;
    if (n > d->counts.longest) d->counts.longest = n;
    if (n > o->max_length && refuse)
        return error_set(err, MIL_INPUT,
                         "the sample has %lld tokens, max_length is %lld: raise it, or set "
                         "on_too_long to truncate or drop",
                         (long long)n, (long long)o->max_length);
    if (s->labelled && n > o->max_length && o->on_too_long == TOO_LONG_DROP) {
        d->counts.dropped_long++;
        return MIL_OK;
    }
    int64_t kept = n < o->max_length ? n : o->max_length, supervised = 0;
    for (int64_t i = 0; i < kept; i++) supervised += s->labels[i];
    if (!s->labelled || supervised == 0) {
        if (refuse)
            return error_set(err, MIL_INPUT, "the sample has nothing to learn (an empty answer)");
        d->counts.dropped_unlabelled++;
        return MIL_OK;
    }
    TRY(reserve(d, kept, err));
    int64_t at = d->begin[d->n];
    memcpy(d->ids + at, s->tokens.ids, (size_t)kept * sizeof *d->ids);
    memcpy(d->labels + at, s->labels, (size_t)kept);
    d->begin[++d->n] = at + kept;
    d->counts.samples++;
    d->counts.truncated += kept < n;
    d->counts.tokens += kept;
    d->counts.supervised += supervised;
    return MIL_OK;
}

static enum mil_status keep_sample(struct loader *l, const struct sample *s, int64_t row,
                                   struct mil_error *err) {
    l->out->counts.rows++;
    enum mil_status st = s->status;
    if (st != MIL_OK && err) *err = s->err;
    if (st == MIL_OK) st = add_sample(l, s, err);
    if (st != MIL_OK) error_prefix(err, "%s: row %lld: ", l->records->path, (long long)row);
    return st;
}

/* One row by itself; *n 0: there is none. */
static enum mil_status load_row(struct loader *l, struct records *r, int64_t *n,
                                struct mil_error *err) {
    json_t *json = NULL;
    TRY(records_next(r, &json, err));
    *n = json != NULL;
    if (!json) return MIL_OK;
    encode_row(l, &l->batch[0], json);
    return keep_sample(l, &l->batch[0], r->row, err);
}

/* Up to `left` rows; *n of them, 0 only at the end. */
static enum mil_status load_batch(struct loader *l, struct records *r, int64_t left, int64_t *n,
                                  struct mil_error *err) {
    size_t cap = left < BATCH ? (size_t)left : BATCH;
    size_t found = records_split(r, l->slices, cap, BATCH_BYTES);
    parallel_for((int64_t)found, GRAIN, encode_rows, l);
    for (size_t i = 0; i < found; i++) {
        if (l->batch[i].unread) {
            records_rewind(r, &l->slices[i]);
            found = i;
            break;
        }
        TRY(keep_sample(l, &l->batch[i], l->slices[i].row + 1, err));
    }
    *n = (int64_t)found;
    return found ? MIL_OK : load_row(l, r, n, err);
}

static enum mil_status load_rows(struct loader *l, const struct dataset_source *source,
                                 struct records *r, struct mil_error *err) {
    int64_t left = source->limit < 0 ? INT64_MAX : source->limit, n = 1;
    l->records = r;
    for (; n > 0 && left > 0; left -= n) TRY(load_batch(l, r, left, &n, err));
    return MIL_OK;
}

/* The format as given, or as the first row shows it (which is read twice). */
static enum mil_status find_format(const struct dataset_source *source, const struct row_format **f,
                                   struct mil_error *err) {
    if (source->format) return row_format_find(source->format, f, err);
    struct records r;
    json_t *json = NULL;
    TRY(records_open(&r, source->path, err));
    enum mil_status st = records_next(&r, &json, err);
    if (st == MIL_OK && json) *f = row_format_detect(json);
    if (st == MIL_OK && !*f)
        st = error_set(err, MIL_INPUT,
                       "%s: the first row has the fields of no known format (messages, sharegpt, "
                       "alpaca, prompt_completion, query_response, text; see the manual)",
                       source->path);
    json_decref(json);
    records_close(&r);
    return st;
}

static enum mil_status load_source(struct loader *l, const struct dataset_source *source,
                                   struct mil_error *err) {
    struct records r;
    l->format = NULL;
    TRY(find_format(source, &l->format, err));
    snprintf(l->out->format, sizeof l->out->format, "%s", row_format_name(l->format));
    TRY(records_open(&r, source->path, err));
    enum mil_status st = MIL_OK;
    for (int64_t i = 0; st == MIL_OK && i < source->skip; i++) {
        json_t *json = NULL;
        st = records_next(&r, &json, err);
        if (!json) break;
        json_decref(json);
    }
    if (st == MIL_OK) st = load_rows(l, source, &r, err);
    records_close(&r);
    return st;
}

static enum mil_status open_loader(struct loader *l, struct mil_error *err) {
    struct dataset *d = l->out;
    d->cap_samples = 1024;
    d->begin = mem_calloc(MEM_TEXT, (size_t)d->cap_samples, sizeof *d->begin);
    l->batch = mem_calloc(MEM_TEXT, BATCH, sizeof *l->batch);
    l->slices = mem_calloc(MEM_TEXT, BATCH, sizeof *l->slices);
    l->n_scratch = threads_count();
    l->scratch = mem_calloc(MEM_TEXT, (size_t)l->n_scratch, sizeof *l->scratch);
    if (!d->begin || !l->batch || !l->slices || !l->scratch)
        return error_nomem(err, BATCH * sizeof *l->batch);
    return MIL_OK;
}

static void close_loader(struct loader *l) {
    for (int i = 0; l->batch && i < BATCH; i++) {
        row_release(&l->batch[i].row);
        rendered_release(&l->batch[i].rendered);
        tokens_release(&l->batch[i].tokens);
        mem_free(l->batch[i].labels);
    }
    for (int i = 0; l->scratch && i < l->n_scratch; i++) tokenizer_scratch_free(&l->scratch[i]);
    mem_free(l->scratch);
    mem_free(l->slices);
    mem_free(l->batch);
}

static enum mil_status load(struct loader *l, const struct dataset_source *sources, size_t n,
                            struct mil_error *err) {
    struct dataset *d = l->out;
    if (tokenizer_eos(l->tok) < 0)
        return error_set(err, MIL_INPUT,
                         "the tokenizer names no end-of-text token, so no answer "
                         "could be taught to end: set eos_token in "
                         "tokenizer_config.json");
    TRY(open_loader(l, err));
    for (size_t i = 0; i < n; i++) TRY(load_source(l, &sources[i], err));
    if (d->n > 0) return MIL_OK;
    return error_set(err, MIL_INPUT,
                     "no sample is left of %lld rows: %lld without anything to learn, %lld longer "
                     "than max_length %lld",
                     (long long)d->counts.rows, (long long)d->counts.dropped_unlabelled,
                     (long long)d->counts.dropped_long, (long long)l->options->max_length);
}

enum mil_status dataset_load(const struct dataset_source *sources, size_t n,
                             const struct tokenizer *tok, const struct dataset_options *options,
                             struct dataset *out, struct mil_error *err) {
    REQUIRE(options->max_length > 0);
    memset(out, 0, sizeof *out);
    struct loader l = {.tok = tok, .options = options, .out = out};
    enum mil_status st = load(&l, sources, n, err);
    close_loader(&l);
    if (st != MIL_OK) dataset_release(out);
    return st;
}

void dataset_release(struct dataset *d) {
    mem_free(d->ids);
    mem_free(d->labels);
    mem_free(d->begin);
    memset(d, 0, sizeof *d);
}

enum mil_status dataset_preview(const struct dataset *d, const struct tokenizer *tok, int64_t i,
                                struct str *out, struct mil_error *err) {
    REQUIRE(i >= 0 && i < d->n);
    enum { SHOWN = 400, LAST = 100 }; /* tokens of a longer sample, and of them at its end */
    struct token_stream s = {.tokenizer = tok};
    enum mil_status st = MIL_OK;
    bool open = false;
    int64_t begin = d->begin[i], end = d->begin[i + 1];
    for (int64_t t = begin; st == MIL_OK && t < end; t++) {
        if (end - begin > SHOWN && t == begin + SHOWN - LAST) {
            st = token_stream_finish(&s, out, err);
            str_addf(out, " [... %lld tokens ...] ", (long long)(end - begin - SHOWN));
            t = end - LAST;
            if (st != MIL_OK) break;
        }
        if (d->labels[t] != open) str_add(out, d->labels[t] ? "[[" : "]]");
        open = d->labels[t];
        st = token_stream_push(&s, d->ids[t], out, err);
    }
    if (st == MIL_OK) st = token_stream_finish(&s, out, err);
    if (open) str_add(out, "]]");
    token_stream_release(&s);
    return st == MIL_OK ? str_status(out, err) : st;
}
