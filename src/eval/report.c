/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - progress, and the file of samples. */
#include "eval/report.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "core/threads.h"
#include "io/json.h"

#define REPORT_SECONDS 0.2

void meter_start(struct meter *m, mil_eval_progress_fn fn, void *ctx, int64_t total) {
    *m = (struct meter){.fn = fn, .ctx = ctx, .total = total, .start = clock_seconds()};
    m->last = m->start - REPORT_SECONDS;
}

double meter_seconds(const struct meter *m) {
    return clock_seconds() - m->start;
}

bool meter_report(struct meter *m, int64_t done, double value, int64_t tokens, bool now) {
    double at = clock_seconds();
    if (!m->fn || m->stopped || (!now && at - m->last < REPORT_SECONDS)) return !m->stopped;
    m->last = at;
    struct mil_eval_progress p = {
        .done = done, .total = m->total, .value = value, .tokens = tokens, .remaining = -1};
    p.elapsed = at - m->start;
    int64_t made = done - m->before;
    if (made > 0) p.remaining = p.elapsed * (double)(m->total - done) / (double)made;
    m->stopped = !m->fn(m->ctx, &p);
    return !m->stopped;
}

enum mil_status samples_open(struct sample_file *s, const char *path, struct mil_error *err) {
    *s = (struct sample_file){.path = path};
    if (!path) return MIL_OK;
    s->f = fopen(path, "wb");
    return s->f ? MIL_OK : error_errno(err, errno, "%s: cannot create the file of samples", path);
}

enum mil_status samples_rewrite(struct sample_file *s, const char *path, struct mil_error *err) {
    *s = (struct sample_file){.path = path};
    TRY(atomic_open(&s->beside, path, err));
    s->rewriting = true;
    return MIL_OK;
}

enum mil_status samples_continue(struct sample_file *s, struct mil_error *err) {
    if (!s->rewriting) return MIL_OK;
    s->rewriting = false;
    TRY(atomic_commit(&s->beside, err));
    s->f = fopen(s->path, "ab");
    return s->f ? MIL_OK : error_errno(err, errno, "%s: cannot append samples", s->path);
}

bool samples_are_file(const struct sample_file *s) {
    struct stat info;
    return s->f && fstat(fileno(s->f), &info) == 0 && S_ISREG(info.st_mode);
}

/* Elements and members follow one another with a comma; a text's last byte is its quote.  The line
 * is empty where there was no memory. */
static void separate(struct str *line) {
    if (line->len > 0 && !strchr("{[", line->data[line->len - 1])) str_add(line, ", ");
}

static void key_add(struct sample_file *s, const char *key) {
    if (s->line.len == 0)
        str_addc(&s->line, '{');
    else
        separate(&s->line);
    json_append_string(key, strlen(key), &s->line);
    str_add(&s->line, ": ");
}

/* Ill-formed bytes would make the line invalid JSON. */
static void add_repaired(struct str *line, const char *text) {
    struct str good = {0};
    size_t n = strlen(text);
    while (n > 0) {
        size_t valid = utf8_valid_prefix(text, n);
        str_addn(&good, text, valid);
        text += valid;
        n -= valid;
        if (n == 0) break;
        str_add_utf8(&good, 0xFFFD);
        text++;
        n--;
    }
    if (good.failed) line->failed = true;
    json_append_string(str_c(&good), good.len, line);
    str_release(&good);
}

void samples_text(struct sample_file *s, const char *key, const char *text) {
    if (!s->path) return;
    key_add(s, key);
    if (text)
        add_repaired(&s->line, text);
    else
        str_add(&s->line, "null");
}

void samples_number(struct sample_file *s, const char *key, double value) {
    if (!s->path) return;
    key_add(s, key);
    if (isfinite(value))
        json_append_real(value, &s->line);
    else
        str_add(&s->line, "null");
}

void samples_integer(struct sample_file *s, const char *key, int64_t value) {
    if (!s->path) return;
    key_add(s, key);
    str_addf(&s->line, "%lld", (long long)value);
}

void samples_bool(struct sample_file *s, const char *key, bool value) {
    if (!s->path) return;
    key_add(s, key);
    str_add(&s->line, value ? "true" : "false");
}

void samples_object(struct sample_file *s, const char *key) {
    if (!s->path) return;
    key_add(s, key);
    str_addc(&s->line, '{');
}

void samples_object_end(struct sample_file *s) {
    if (s->path) str_addc(&s->line, '}');
}

void samples_list(struct sample_file *s, const char *key) {
    if (!s->path) return;
    key_add(s, key);
    str_addc(&s->line, '[');
}

void samples_list_text(struct sample_file *s, const char *text) {
    if (!s->path) return;
    separate(&s->line);
    add_repaired(&s->line, text);
}

void samples_list_number(struct sample_file *s, double value) {
    if (!s->path) return;
    separate(&s->line);
    json_append_real(value, &s->line);
}

void samples_list_end(struct sample_file *s) {
    if (s->path) str_addc(&s->line, ']');
}

static enum mil_status write_line(struct sample_file *s, struct mil_error *err) {
    if (s->rewriting) return atomic_write(&s->beside, s->line.data, s->line.len, err);
    bool ok =
        s->f && fwrite(s->line.data, 1, s->line.len, s->f) == s->line.len && fflush(s->f) == 0;
    return ok ? MIL_OK : error_errno(err, errno, "%s: cannot write a sample", s->path);
}

enum mil_status samples_end(struct sample_file *s, struct mil_error *err) {
    if (!s->path) return MIL_OK;
    str_add(&s->line, "}\n");
    TRY(str_status(&s->line, err));
    enum mil_status st = write_line(s, err);
    str_reset(&s->line);
    return st;
}

enum mil_status samples_close(struct sample_file *s, struct mil_error *err) {
    const char *path = s->path;
    bool ok = !s->f || fclose(s->f) == 0;
    int why = errno;
    if (s->rewriting) atomic_abort(&s->beside);
    s->f = NULL;
    s->path = NULL;
    s->rewriting = false;
    str_release(&s->line);
    return ok ? MIL_OK : error_errno(err, why, "%s: cannot finish the file of samples", path);
}
