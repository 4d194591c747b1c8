/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - jansson, with our memory, our limits and our messages.
 *
 * jansson's allocator is set before main (a constructor): every json_t of the process then comes
 * from core/mem, is accounted, and can be made to fail in tests.  Hence what json_dumps returns
 * would have to be mem_free'd; use json_append instead.  jansson reports some failed allocations as
 * "invalid token", so failures are noted here and win over its text.
 *
 * Integers past 64 bits occur in real files (tokenizer_config.json has "model_max_length":
 * 1000000000000000019884624838656); jansson refuses them, we read them as doubles. */
#include "io/json.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "io/file.h"

static _Thread_local bool alloc_failed_;

static void *json_alloc(size_t n) {
    void *p = mem_alloc(MEM_IO, n, 1);
    if (!p) alloc_failed_ = true;
    return p;
}

__attribute__((constructor)) static void install_allocator(void) {
    json_set_alloc_funcs(json_alloc, mem_free);
}

static const char *skip_bom(const char *text, size_t *n) {
    if (*n < 3 || memcmp(text, "\xef\xbb\xbf", 3) != 0) return text;
    *n -= 3;
    return text + 3;
}

/* What jansson said, in our words. start: offset of text in what `name` stands for. */
static enum mil_status parse_error(const json_error_t *e, const char *text, size_t n,
                                   const char *name, struct mil_error *err) {
    if (alloc_failed_ || !e->text[0]) {
        error_nomem(err, 0);
        error_prefix(err, "%s: ", name);
        return MIL_NOMEM;
    }
    if (json_error_code(e) == json_error_invalid_utf8) {
        size_t good = utf8_valid_prefix(text, n);
        return error_set_at(err, MIL_INPUT, (int64_t)good,
                            "%s: line %d: invalid UTF-8 at byte %zu (0x%02x)", name, e->line, good,
                            good < n ? (unsigned char)text[good] : 0u);
    }
    return error_set_at(err, MIL_INPUT, e->position, "%s: line %d, column %d: %s", name, e->line,
                        e->column, e->text);
}

/* End of the digits that start at p; *wide is set when they do not fit 64 bits with their sign. */
static const char *scan_integer(const char *p, const char *end, bool negative, bool *wide) {
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + negative;
    *wide = false;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (*wide || value > (limit - digit) / 10)
            *wide = true;
        else
            value = 10 * value + digit;
    }
    return p;
}

/* Skip a string literal whose opening quote is at p. */
static const char *skip_string(const char *p, const char *end) {
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\' && p + 1 < end) p++;
    return p < end ? p + 1 : end;
}

/* Copy text, marking integers that need more than 64 bits as reals ("e0" behind their digits). */
static void widen_integers(const char *text, size_t n, struct str *out) {
    const char *p = text, *end = text + n, *from = text;
    while (p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
        } else if (*p >= '0' && *p <= '9') {
            bool wide, negative = p > text && p[-1] == '-';
            p = scan_integer(p, end, negative, &wide);
            bool real = p < end && (*p == '.' || *p == 'e' || *p == 'E');
            if (wide && !real) {
                str_addn(out, from, (size_t)(p - from));
                str_add(out, "e0");
                from = p;
            }
            while (real && p < end && strchr("+-.eE0123456789", *p) && *p) p++;
        } else {
            p++;
        }
    }
    str_addn(out, from, (size_t)(end - from));
}

static enum mil_status read_widened(const char *text, size_t n, const char *name, json_t **out,
                                    struct mil_error *err) {
    struct str copy = {0};
    json_error_t e;
    enum mil_status st;
    widen_integers(text, n, &copy);
    TRY_GOTO(str_status(&copy, err));
    *out = json_loadb(str_c(&copy), copy.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!*out) st = parse_error(&e, copy.data, copy.len, name, err);
fail:
    str_release(&copy);
    return st;
}

enum mil_status json_read_text(const char *text, size_t n, const char *name, json_t **out,
                               struct mil_error *err) {
    json_error_t e;
    alloc_failed_ = false;
    size_t all = n;
    text = skip_bom(text, &n);
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (*out) return MIL_OK;
    enum mil_status st;
    if (json_error_code(&e) == json_error_numeric_overflow)
        st = read_widened(text, n, name, out, err);
    else
        st = parse_error(&e, text, n, name, err);
    if (st != MIL_OK && err && err->offset >= 0) err->offset += (int64_t)(all - n);
    return st;
}

enum mil_status json_read_prefix(const char *text, size_t n, const char *name, json_t **out,
                                 size_t *used, struct mil_error *err) {
    json_error_t e;
    alloc_failed_ = false;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &e);
    if (!*out) return parse_error(&e, text, n, name, err);
    *used = (size_t)e.position;
    return MIL_OK;
}

enum mil_status json_read_file(const char *path, json_t **out, struct mil_error *err) {
    struct str text = {0};
    *out = NULL;
    enum mil_status st = file_read(path, JSON_MAX_BYTES, &text, err);
    if (st == MIL_OK) st = json_read_text(str_c(&text), text.len, path, out, err);
    str_release(&text);
    return st;
}

/* ---- typed members ---- */

static const char *type_name(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "text";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a fraction";
    case JSON_TRUE:
    case JSON_FALSE: return "true or false";
    case JSON_NULL: return "null";
    }
    return "?";
}

/* *v: the member, or NULL when it is absent or null and need not be there. */
static enum mil_status find_member(const json_t *obj, const char *where, const char *key,
                                   bool required, const json_t **v, struct mil_error *err) {
    if (!json_is_object(obj)) return error_set(err, MIL_INPUT, "%s: must be an object", where);
    *v = json_object_get(obj, key);
    if (*v && json_is_null(*v)) *v = NULL;
    if (!*v && required) return error_set(err, MIL_INPUT, "%s: key '%s' is missing", where, key);
    return MIL_OK;
}

static enum mil_status wrong_type(const json_t *v, const char *where, const char *key,
                                  const char *want, struct mil_error *err) {
    if (json_is_string(v))
        return error_set(err, MIL_INPUT, "%s: '%s' must be %s, but is the text \"%.60s\"", where,
                         key, want, json_string_value(v));
    return error_set(err, MIL_INPUT, "%s: '%s' must be %s, but is %s", where, key, want,
                     type_name(v));
}

enum mil_status json_member_i64(const json_t *obj, const char *where, const char *key,
                                bool required, int64_t min, int64_t max, int64_t *out,
                                struct mil_error *err) {
    const json_t *v = NULL;
    TRY(find_member(obj, where, key, required, &v, err));
    if (!v) return MIL_OK;
    if (!json_is_integer(v)) return wrong_type(v, where, key, "an integer", err);
    int64_t value = json_integer_value(v);
    if (value < min || value > max)
        return error_set(err, MIL_INPUT, "%s: '%s' is %lld, must be from %lld to %lld", where, key,
                         (long long)value, (long long)min, (long long)max);
    *out = value;
    return MIL_OK;
}

enum mil_status json_member_f64(const json_t *obj, const char *where, const char *key,
                                bool required, double min, double max, double *out,
                                struct mil_error *err) {
    const json_t *v = NULL;
    TRY(find_member(obj, where, key, required, &v, err));
    if (!v) return MIL_OK;
    if (!json_is_number(v)) return wrong_type(v, where, key, "a number", err);
    double value = json_number_value(v);
    if (!(value >= min && value <= max))
        return error_set(err, MIL_INPUT, "%s: '%s' is %g, must be from %g to %g", where, key, value,
                         min, max);
    *out = value;
    return MIL_OK;
}

enum mil_status json_member_bool(const json_t *obj, const char *where, const char *key,
                                 bool required, bool *out, struct mil_error *err) {
    const json_t *v = NULL;
    TRY(find_member(obj, where, key, required, &v, err));
    if (!v) return MIL_OK;
    if (!json_is_boolean(v)) return wrong_type(v, where, key, "true or false", err);
    *out = json_is_true(v);
    return MIL_OK;
}

enum mil_status json_member_str(const json_t *obj, const char *where, const char *key,
                                bool required, const char **out, struct mil_error *err) {
    const json_t *v = NULL;
    TRY(find_member(obj, where, key, required, &v, err));
    if (!v) return MIL_OK;
    if (!json_is_string(v)) return wrong_type(v, where, key, "text", err);
    *out = json_string_value(v);
    return MIL_OK;
}
