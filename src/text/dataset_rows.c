/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_rows.c - see dataset_rows.h and docs/formats/data.md.  A format is a row of a table: its
 * name, the fields that tell it, and a reader.  Fields that are not named are ignored; those that
 * would change the conversation and are not understood (tools, history, pictures) are refused. */
#include "text/dataset_rows.h"

#include <string.h>

#include "core/mem.h"
#include "io/json.h"
#include "text/dataset.h"

#define MAX_MESSAGES 4096

struct row_format {
    const char *name;
    const char *fields[3][2]; /* any of these pairs is there; the second may be NULL */
    enum mil_status (*read)(const json_t *json, const char *const pair[2], struct row *r,
                            struct mil_error *err);
};

void row_release(struct row *r) {
    mem_free(r->messages);
    json_decref(r->owner);
    memset(r, 0, sizeof *r);
}

static enum mil_status add_message(struct row *r, enum role role, const char *content,
                                   const char *input, struct mil_error *err) {
    if (r->n == MAX_MESSAGES)
        return error_set(err, MIL_INPUT, "more than %d messages in a conversation", MAX_MESSAGES);
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 8;
        struct message *grown = mem_realloc(MEM_TEXT, r->messages, cap, sizeof *grown);
        if (!grown) return error_nomem(err, cap * sizeof *grown);
        r->messages = grown;
        r->cap = cap;
    }
    r->messages[r->n++] = (struct message){role, content, input};
    return MIL_OK;
}

/* A string that the row keeps. */
static enum mil_status keep_string(struct row *r, const char *text, size_t n, const char **out,
                                   struct mil_error *err) {
    json_t *s = json_stringn(text, n);
    if (!s || json_array_append_new(r->owner, s) != 0) return error_nomem(err, n);
    *out = json_string_value(s);
    return MIL_OK;
}

static enum mil_status need_text(const json_t *json, const char *key, const char **out,
                                 struct mil_error *err) {
    return json_member_str(json, "the row", key, true, out, err);
}

static enum mil_status refuse_field(const json_t *json, const char *key, struct mil_error *err) {
    const json_t *value = json_object_get(json, key);
    bool empty = !value || json_is_null(value) ||
                 (json_is_array(value) && !json_array_size(value)) ||
                 (json_is_string(value) && !*json_string_value(value));
    if (empty) return MIL_OK;
    return error_set(err, MIL_UNSUPPORTED, "the field `%s` is not supported", key);
}

static enum mil_status add_system(const json_t *json, struct row *r, struct mil_error *err) {
    const char *system = NULL;
    TRY(json_member_str(json, "the row", "system", false, &system, err));
    return system && *system ? add_message(r, ROLE_SYSTEM, system, NULL, err) : MIL_OK;
}

/* The short answer that evaluation compares with: text, or a number as text. */
static enum mil_status read_answer(const json_t *json, struct row *r, struct mil_error *err) {
    const json_t *answer = json_object_get(json, "answer");
    char buf[40];
    if (json_is_string(answer)) {
        r->truth = json_string_value(answer);
        return MIL_OK;
    }
    if (!json_is_number(answer)) return MIL_OK;
    int n = json_is_integer(answer)
                ? snprintf(buf, sizeof buf, "%lld", (long long)json_integer_value(answer))
                : snprintf(buf, sizeof buf, "%.15g", json_real_value(answer));
    return keep_string(r, buf, (size_t)n, &r->truth, err);
}

static enum mil_status read_alpaca(const json_t *json, const char *const pair[2], struct row *r,
                                   struct mil_error *err) {
    const char *instruction = NULL, *input = NULL;
    TRY(refuse_field(json, "history", err));
    TRY(refuse_field(json, "tools", err));
    TRY(need_text(json, pair[0], &instruction, err));
    TRY(need_text(json, pair[1], &r->output, err));
    TRY(json_member_str(json, "the row", "input", false, &input, err));
    TRY(add_system(json, r, err));
    TRY(add_message(r, ROLE_USER, instruction, input, err));
    TRY(add_message(r, ROLE_ASSISTANT, r->output, NULL, err));
    r->truth = r->output;
    return read_answer(json, r, err);
}

/* prompt and completion, query and response, question and answer, problem and solution */
static enum mil_status read_pair(const json_t *json, const char *const pair[2], struct row *r,
                                 struct mil_error *err) {
    const char *prompt = NULL;
    TRY(need_text(json, pair[0], &prompt, err));
    TRY(need_text(json, pair[1], &r->output, err));
    TRY(add_system(json, r, err));
    TRY(add_message(r, ROLE_USER, prompt, NULL, err));
    TRY(add_message(r, ROLE_ASSISTANT, r->output, NULL, err));
    r->truth = r->output;
    return MIL_OK;
}

static enum mil_status read_text(const json_t *json, const char *const pair[2], struct row *r,
                                 struct mil_error *err) {
    return need_text(json, pair[0], &r->text, err);
}

static const struct {
    const char *name;
    enum role role;
} role_names[] = {{"system", ROLE_SYSTEM},  {"user", ROLE_USER},
                  {"human", ROLE_USER},     {"assistant", ROLE_ASSISTANT},
                  {"gpt", ROLE_ASSISTANT},  {"chatgpt", ROLE_ASSISTANT},
                  {"model", ROLE_ASSISTANT}};

static enum mil_status find_role(const char *name, enum role *out, struct mil_error *err) {
    for (size_t i = 0; i < sizeof role_names / sizeof *role_names; i++)
        if (strcmp(name, role_names[i].name) == 0) {
            *out = role_names[i].role;
            return MIL_OK;
        }
    return error_set(err, MIL_UNSUPPORTED,
                     "the role '%.40s' is not supported (system, user, human, assistant, gpt)",
                     name);
}

/* A content: a string, or a list of {"type": "text", "text": ...}. */
static enum mil_status read_content(const json_t *value, struct row *r, const char **out,
                                    struct mil_error *err) {
    struct str joined = {0};
    enum mil_status st = MIL_OK;
    *out = json_string_value(value);
    if (*out) return MIL_OK;
    if (!json_is_array(value))
        return error_set(err, MIL_INPUT, "a message's content is neither text nor a list");
    for (size_t i = 0; st == MIL_OK && i < json_array_size(value); i++) {
        const json_t *part = json_array_get(value, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const char *text = json_string_value(json_object_get(part, "text"));
        if (!type || strcmp(type, "text") != 0 || !text)
            st = error_set(err, MIL_UNSUPPORTED,
                           "a content part of type '%.40s' is not supported "
                           "(only text is)",
                           type ? type : "?");
        else
            str_add(&joined, text);
    }
    if (st == MIL_OK) st = str_status(&joined, err);
    if (st == MIL_OK) st = keep_string(r, str_c(&joined), joined.len, out, err);
    str_release(&joined);
    return st;
}

static enum mil_status read_turns(const json_t *list, const char *role_key, const char *content_key,
                                  struct row *r, struct mil_error *err) {
    if (!json_is_array(list)) return error_set(err, MIL_INPUT, "the conversation is no list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *turn = json_array_get(list, i);
        const char *name = NULL, *content = NULL;
        enum role role = ROLE_USER;
        enum mil_status st = json_is_object(turn)
                                 ? json_member_str(turn, "it", role_key, true, &name, err)
                                 : error_set(err, MIL_INPUT, "is no object");
        if (st == MIL_OK) st = refuse_field(turn, "tool_calls", err);
        if (st == MIL_OK) st = find_role(name, &role, err);
        if (st == MIL_OK) st = read_content(json_object_get(turn, content_key), r, &content, err);
        if (st == MIL_OK) st = add_message(r, role, content, NULL, err);
        if (st != MIL_OK) {
            error_prefix(err, "message %zu: ", i + 1);
            return st;
        }
    }
    if (r->n == 0) return error_set(err, MIL_INPUT, "the conversation is empty");
    if (r->messages[r->n - 1].role == ROLE_ASSISTANT)
        r->truth = r->output = r->messages[r->n - 1].content;
    return MIL_OK;
}

static enum mil_status read_messages(const json_t *json, const char *const pair[2], struct row *r,
                                     struct mil_error *err) {
    TRY(refuse_field(json, "tools", err));
    return read_turns(json_object_get(json, pair[0]), "role", "content", r, err);
}

static enum mil_status read_sharegpt(const json_t *json, const char *const pair[2], struct row *r,
                                     struct mil_error *err) {
    TRY(refuse_field(json, "tools", err));
    TRY(refuse_field(json, "image", err));
    TRY(add_system(json, r, err));
    return read_turns(json_object_get(json, pair[0]), "from", "value", r, err);
}

static const struct row_format formats[] = {
    {"messages", {{"messages"}}, read_messages},
    {"sharegpt", {{"conversations"}}, read_sharegpt},
    {"alpaca", {{"instruction", "output"}}, read_alpaca},
    {"prompt_completion", {{"prompt", "completion"}}, read_pair},
    {"query_response",
     {{"query", "response"}, {"question", "answer"}, {"problem", "solution"}},
     read_pair},
    {"text", {{"text"}}, read_text},
};
#define N_FORMATS (sizeof formats / sizeof *formats)
static const char *const format_names[N_FORMATS + 1] = {
    "messages", "sharegpt", "alpaca", "prompt_completion", "query_response", "text", NULL};

const char *const *dataset_formats(void) {
    return format_names;
}

enum mil_status row_format_find(const char *name, const struct row_format **out,
                                struct mil_error *err) {
    for (size_t i = 0; i < N_FORMATS; i++)
        if (strcmp(name, formats[i].name) == 0) {
            *out = &formats[i];
            return MIL_OK;
        }
    const char *near = str_nearest(name, format_names, N_FORMATS);
    return error_set(
        err, MIL_USAGE,
        "data format '%.40s' is not known%s%s%s; there are messages, sharegpt, alpaca, "
        "prompt_completion, query_response, text",
        name, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

/* The pair of fields by which a row is of this format, or NULL. */
static const char *const *pair_of(const struct row_format *f, const json_t *json) {
    for (size_t k = 0; k < 3 && f->fields[k][0]; k++) {
        const char *const *pair = f->fields[k];
        if (json_object_get(json, pair[0]) && (!pair[1] || json_object_get(json, pair[1])))
            return pair;
    }
    return NULL;
}

const struct row_format *row_format_detect(const json_t *json) {
    for (size_t i = 0; i < N_FORMATS; i++)
        if (pair_of(&formats[i], json)) return &formats[i];
    return NULL;
}

const char *row_format_name(const struct row_format *f) {
    return f->name;
}

const char *dataset_detect(const void *json_row) {
    const struct row_format *f = row_format_detect(json_row);
    return f ? f->name : NULL;
}

enum mil_status row_parse(const struct row_format *f, json_t *json, struct row *r,
                          struct mil_error *err) {
    memset(r, 0, sizeof *r);
    const char *const *pair = pair_of(f, json);
    if (!pair)
        return error_set(err, MIL_INPUT, "is no row of format %s: the field `%s`%s%s%s is missing",
                         f->name, f->fields[0][0], f->fields[0][1] ? " or `" : "",
                         f->fields[0][1] ? f->fields[0][1] : "", f->fields[0][1] ? "`" : "");
    r->owner = json_array();
    if (!r->owner || json_array_append(r->owner, json) != 0) return error_nomem(err, 0);
    return f->read(json, pair, r, err);
}

void eval_row_release(struct eval_row *row) {
    json_decref(row->owner);
    memset(row, 0, sizeof *row);
}

enum mil_status dataset_row_parse(const char *format, const void *json_row, struct eval_row *out,
                                  struct mil_error *err) {
    struct row r = {0};
    const struct row_format *f = NULL;
    const size_t limit = sizeof out->messages / sizeof *out->messages;
    memset(out, 0, sizeof *out);
    TRY(row_format_find(format, &f, err));
    enum mil_status st = row_parse(f, (json_t *)json_row, &r, err);
    if (st == MIL_OK && r.text) st = add_message(&r, ROLE_USER, r.text, NULL, err);
    size_t n = r.n && r.messages[r.n - 1].role == ROLE_ASSISTANT ? r.n - 1 : r.n;
    if (st == MIL_OK && (n == 0 || n > limit))
        st = error_set(err, MIL_INPUT, "%zu prompt messages (1 to %zu can be evaluated)", n, limit);
    if (st == MIL_OK) {
        memcpy(out->messages, r.messages, n * sizeof *r.messages);
        out->n = n;
        out->truth = r.truth;
        out->output = r.output;
        out->owner = r.owner;
        r.owner = NULL;
    }
    row_release(&r);
    return st;
}
