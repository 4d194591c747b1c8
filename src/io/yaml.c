/* SPDX-License-Identifier: Apache-2.0 */
/* yaml.c - libyaml's events as a JSON tree.
 *
 * Plain scalars follow the core schema of YAML 1.2 (section 10.3.2): null ~ true false integers
 * (decimal, 0o, 0x) and floats; "yes", "no", "on" and "1_000" are text, quoted scalars always are.
 * .inf and .nan match that schema but have no place in a configuration: refused, as are numbers
 * that leave 64 bits.  The recursion is as deep as the document, which YAML_MAX_DEPTH bounds.
 * libyaml's own memory comes from malloc (it has no hook); the document's size is limited. */
#include "io/yaml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/mem.h"
#include "io/file.h"

#define YAML_MAX_BYTES ((size_t)4 << 20)

struct reader {
    yaml_parser_t parser;
    const char *name;
    json_t *lines;
    struct str path; /* dotted, of the node being read */
    int depth, nodes;
    struct mil_error *err;
};

/* ---- scalars ---- */

static bool one_of(const char *s, const char *const *words) {
    for (; *words; words++)
        if (strcmp(s, *words) == 0) return true;
    return false;
}

static bool is_null(const char *s) {
    static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};
    return one_of(s, words);
}

static bool is_true(const char *s) {
    static const char *const words[] = {"true", "True", "TRUE", NULL};
    return one_of(s, words);
}

static bool is_false(const char *s) {
    static const char *const words[] = {"false", "False", "FALSE", NULL};
    return one_of(s, words);
}

static bool is_not_finite(const char *s) {
    static const char *const words[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};
    return one_of(s, words) ||
           ((*s == '-' || *s == '+') && s[1] == '.' && (s[2] | 32) == 'i' && one_of(s + 1, words));
}

static size_t digits(const char *s, const char *set) {
    return strspn(s, set);
}

/* 0 when s is no integer of the core schema, otherwise its base. */
static int integer_base(const char *s) {
    static const char dec[] = "0123456789", hex[] = "0123456789abcdefABCDEF";
    if (s[0] == '0' && s[1] == 'o') return s[2] && !s[2 + digits(s + 2, "01234567")] ? 8 : 0;
    if (s[0] == '0' && s[1] == 'x') return s[2] && !s[2 + digits(s + 2, hex)] ? 16 : 0;
    if (*s == '-' || *s == '+') s++;
    return *s && !s[digits(s, dec)] ? 10 : 0;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(const char *s) {
    static const char dec[] = "0123456789";
    if (*s == '-' || *s == '+') s++;
    size_t whole = digits(s, dec), part = 0;
    s += whole;
    if (*s == '.') {
        part = digits(++s, dec);
        s += part;
    }
    if (whole + part == 0) return false;
    if (*s != 'e' && *s != 'E') return !*s;
    s++;
    if (*s == '-' || *s == '+') s++;
    return *s && !s[digits(s, dec)];
}

static enum mil_status fail_at(struct reader *r, const yaml_mark_t *at, const char *what) {
    return error_set(r->err, MIL_INPUT, "%s: line %zu, column %zu: %s", r->name, at->line + 1,
                     at->column + 1, what);
}

static enum mil_status number(struct reader *r, const yaml_event_t *e, const char *s, int base,
                              json_t **out) {
    errno = 0;
    if (base) {
        long long v = strtoll(base == 10 ? s : s + 2, NULL, base);
        if (errno) return fail_at(r, &e->start_mark, "the integer does not fit 64 bits");
        *out = json_integer(v);
        return MIL_OK;
    }
    double v = strtod(s, NULL);
    *out = json_real(v); /* NULL for infinity */
    if (v > 1.7976931348623157e308 || v < -1.7976931348623157e308)
        return fail_at(r, &e->start_mark, "the number is too large");
    return MIL_OK;
}

static enum mil_status scalar(struct reader *r, const yaml_event_t *e, json_t **out) {
    const char *s = (const char *)e->data.scalar.value;
    size_t n = e->data.scalar.length;
    if (memchr(s, 0, n)) return fail_at(r, &e->start_mark, "a text may not hold a NUL");
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && is_not_finite(s))
        return fail_at(r, &e->start_mark,
                       "infinity and NaN are not accepted; quote it if it is text");
    int base = plain ? integer_base(s) : 0;
    if (base || (plain && is_float(s))) {
        TRY(number(r, e, s, base, out));
    } else if (plain && is_null(s)) {
        *out = json_null();
    } else if (plain && (is_true(s) || is_false(s))) {
        *out = json_boolean(is_true(s));
    } else {
        *out = json_stringn(s, n);
    }
    return *out ? MIL_OK : error_nomem(r->err, 0);
}

/* ---- events ---- */

static enum mil_status parser_error(struct reader *r) {
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return error_nomem(r->err, 0);
    if (p->error == YAML_READER_ERROR)
        return error_set_at(r->err, MIL_INPUT, (int64_t)p->problem_offset, "%s: byte %zu: %s",
                            r->name, p->problem_offset, p->problem);
    return fail_at(r, &p->problem_mark, p->problem ? p->problem : "broken YAML");
}

static const yaml_char_t *anchor_of(const yaml_event_t *e) {
    switch (e->type) {
    case YAML_ALIAS_EVENT: return e->data.alias.anchor;
    case YAML_SCALAR_EVENT: return e->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT: return e->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT: return e->data.mapping_start.anchor;
    default: return NULL;
    }
}

static const yaml_char_t *tag_of(const yaml_event_t *e) {
    switch (e->type) {
    case YAML_SCALAR_EVENT: return e->data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT: return e->data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT: return e->data.mapping_start.tag;
    default: return NULL;
    }
}

/* The next event (the caller deletes it), refused if it uses what we do not support. */
static enum mil_status next_event(struct reader *r, yaml_event_t *e) {
    if (!yaml_parser_parse(&r->parser, e)) return parser_error(r);
    enum mil_status st = MIL_OK;
    if (anchor_of(e))
        st = fail_at(r, &e->start_mark,
                     "anchors and aliases are not supported; write the value out");
    else if (tag_of(e))
        st = fail_at(r, &e->start_mark, "tags are not supported");
    else if (++r->nodes > YAML_MAX_NODES)
        st = fail_at(r, &e->start_mark, "too many values");
    if (st != MIL_OK) yaml_event_delete(e);
    return st;
}

static enum mil_status node(struct reader *r, const yaml_event_t *e, json_t **out);

/* Read the value that event e begins, at <path>.<part>; remembers the line. */
static enum mil_status child(struct reader *r, const yaml_event_t *e, const char *part,
                             const yaml_mark_t *at, json_t **out) {
    size_t len = r->path.len;
    if (len) str_addc(&r->path, '.');
    str_add(&r->path, part);
    TRY(str_status(&r->path, r->err));
    json_t *line = json_integer((json_int_t)at->line + 1);
    if (json_object_set_new(r->lines, str_c(&r->path), line) != 0) return error_nomem(r->err, 0);
    TRY(node(r, e, out));
    r->path.len = len;
    r->path.data[len] = 0;
    return MIL_OK;
}

static enum mil_status sequence(struct reader *r, json_t *list) {
    yaml_event_t e;
    char part[24];
    for (size_t i = 0;; i++) {
        TRY(next_event(r, &e));
        if (e.type == YAML_SEQUENCE_END_EVENT) break;
        json_t *item = NULL;
        snprintf(part, sizeof part, "%zu", i);
        enum mil_status st = child(r, &e, part, &e.start_mark, &item);
        yaml_event_delete(&e);
        if (st == MIL_OK && json_array_append_new(list, item) != 0) st = error_nomem(r->err, 0);
        TRY(st);
    }
    yaml_event_delete(&e);
    return MIL_OK;
}

static enum mil_status check_key(struct reader *r, const yaml_event_t *e, const json_t *map) {
    if (e->type != YAML_SCALAR_EVENT)
        return fail_at(r, &e->start_mark, "a key must be a single word or text");
    const char *key = (const char *)e->data.scalar.value;
    if (memchr(key, 0, e->data.scalar.length))
        return fail_at(r, &e->start_mark, "a key may not hold a NUL");
    if (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strcmp(key, "<<") == 0)
        return fail_at(r, &e->start_mark, "merge keys are not supported");
    if (!json_object_get(map, key)) return MIL_OK;
    return error_set(r->err, MIL_INPUT, "%s: line %zu, column %zu: key '%.64s' occurs twice",
                     r->name, e->start_mark.line + 1, e->start_mark.column + 1, key);
}

/* One key (event k) and its value into map. */
static enum mil_status pair(struct reader *r, const yaml_event_t *k, json_t *map) {
    yaml_event_t v;
    json_t *value = NULL;
    TRY(check_key(r, k, map));
    TRY(next_event(r, &v));
    const char *key = (const char *)k->data.scalar.value;
    enum mil_status st = child(r, &v, key, &k->start_mark, &value);
    yaml_event_delete(&v);
    if (st == MIL_OK && json_object_set_new(map, key, value) != 0) st = error_nomem(r->err, 0);
    return st;
}

static enum mil_status mapping(struct reader *r, json_t *map) {
    yaml_event_t k;
    for (;;) {
        TRY(next_event(r, &k));
        if (k.type == YAML_MAPPING_END_EVENT) break;
        enum mil_status st = pair(r, &k, map);
        yaml_event_delete(&k);
        TRY(st);
    }
    yaml_event_delete(&k);
    return MIL_OK;
}

static enum mil_status node(struct reader *r, const yaml_event_t *e, json_t **out) {
    if (e->type == YAML_SCALAR_EVENT) return scalar(r, e, out);
    REQUIRE(e->type == YAML_SEQUENCE_START_EVENT || e->type == YAML_MAPPING_START_EVENT);
    if (r->depth >= YAML_MAX_DEPTH) return fail_at(r, &e->start_mark, "nested too deeply");
    bool list = e->type == YAML_SEQUENCE_START_EVENT;
    json_t *v = list ? json_array() : json_object();
    if (!v) return error_nomem(r->err, 0);
    r->depth++;
    enum mil_status st = list ? sequence(r, v) : mapping(r, v);
    r->depth--;
    if (st == MIL_OK)
        *out = v;
    else
        json_decref(v);
    return st;
}

/* An event of this type must come next. */
static enum mil_status expect(struct reader *r, yaml_event_type_t type, const char *otherwise) {
    yaml_event_t e;
    TRY(next_event(r, &e));
    enum mil_status st = e.type == type ? MIL_OK : fail_at(r, &e.start_mark, otherwise);
    yaml_event_delete(&e);
    return st;
}

static enum mil_status document(struct reader *r, json_t **out) {
    yaml_event_t e;
    TRY(expect(r, YAML_STREAM_START_EVENT, "no YAML"));
    TRY(expect(r, YAML_DOCUMENT_START_EVENT, "the document is empty"));
    TRY(next_event(r, &e));
    enum mil_status st = node(r, &e, out);
    yaml_event_delete(&e);
    TRY(st);
    TRY(expect(r, YAML_DOCUMENT_END_EVENT, "one document expected"));
    return expect(r, YAML_STREAM_END_EVENT, "more than one document");
}

enum mil_status yaml_read_text(const char *text, size_t n, const char *name, struct yaml_doc *out,
                               struct mil_error *err) {
    struct reader r = {.name = name, .err = err};
    memset(out, 0, sizeof *out);
    if (n > YAML_MAX_BYTES)
        return error_set(err, MIL_INPUT, "%s: %zu bytes, larger than the limit of %zu", name, n,
                         YAML_MAX_BYTES);
    if (!yaml_parser_initialize(&r.parser)) return error_nomem(err, 0);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    r.lines = json_object();
    enum mil_status st = r.lines ? document(&r, &out->root) : error_nomem(err, 0);
    out->lines = r.lines;
    yaml_parser_delete(&r.parser);
    str_release(&r.path);
    if (st != MIL_OK) yaml_release(out);
    return st;
}

enum mil_status yaml_read_file(const char *path, struct yaml_doc *out, struct mil_error *err) {
    struct str text = {0};
    memset(out, 0, sizeof *out);
    enum mil_status st = file_read(path, YAML_MAX_BYTES, &text, err);
    if (st == MIL_OK) st = yaml_read_text(str_c(&text), text.len, path, out, err);
    str_release(&text);
    return st;
}

void yaml_release(struct yaml_doc *doc) {
    json_decref(doc->root);
    json_decref(doc->lines);
    memset(doc, 0, sizeof *doc);
}

int64_t yaml_line(const struct yaml_doc *doc, const char *dotted) {
    return json_integer_value(json_object_get(doc->lines, dotted));
}

enum mil_status yaml_read_value(const char *text, const char *name, json_t **out,
                                struct mil_error *err) {
    struct yaml_doc doc;
    *out = NULL;
    if (!text[strspn(text, " \t")]) { /* "key=" sets the empty text */
        *out = json_string("");
        return *out ? MIL_OK : error_nomem(err, 0);
    }
    TRY(yaml_read_text(text, strlen(text), name, &doc, err));
    *out = json_incref(doc.root);
    yaml_release(&doc);
    return MIL_OK;
}
