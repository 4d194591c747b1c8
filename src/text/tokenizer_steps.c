/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_steps.c - see tokenizer_steps.h.  Each part of the file is a tree of Sequences whose
 * leaves are looked up in a table of readers: a new step is a row and a function. */
#include "text/tokenizer_steps.h"

#include <string.h>

#include "io/json.h"

typedef enum mil_status (*step_reader)(const json_t *node, struct tokenizer *t,
                                       struct mil_error *err);
struct step_row {
    const char *type;
    step_reader read;
};
struct part {
    const char *name, *members; /* "normalizer", and its Sequence's list */
    const struct step_row *rows;
    size_t n;
};

#define MAX_DEPTH 8

static enum mil_status read_part(const struct part *part, const json_t *node, struct tokenizer *t,
                                 int depth, struct mil_error *err) {
    if (!node || json_is_null(node)) return MIL_OK;
    const char *type = NULL;
    if (!json_is_object(node) || depth > MAX_DEPTH)
        return error_set(err, MIL_INPUT, "%s is no object, or nested too deeply", part->name);
    TRY(json_member_str(node, part->name, "type", true, &type, err));
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(node, part->members);
        if (!json_is_array(list))
            return error_set(err, MIL_INPUT, "%s: the Sequence has no list `%s`", part->name,
                             part->members);
        for (size_t i = 0; i < json_array_size(list); i++)
            TRY(read_part(part, json_array_get(list, i), t, depth + 1, err));
        return MIL_OK;
    }
    for (size_t i = 0; i < part->n; i++)
        if (strcmp(type, part->rows[i].type) == 0) return part->rows[i].read(node, t, err);
    return error_set(err, MIL_UNSUPPORTED, "%s of type '%.40s' is not supported", part->name, type);
}

/* {"String": s} or {"Regex": r} */
static enum mil_status read_pattern(const json_t *node, const char *where, struct pattern *p,
                                    struct mil_error *err) {
    const json_t *pattern = json_object_get(node, "pattern");
    const char *text = json_string_value(json_object_get(pattern, "String"));
    if (text) return pattern_init_literal(p, text, err);
    text = json_string_value(json_object_get(pattern, "Regex"));
    if (text) return pattern_init_regex(p, text, err);
    return error_set(err, MIL_INPUT, "%s: `pattern` is neither a String nor a Regex", where);
}

/* --- pre_tokenizer --- */

static enum mil_status read_split(const json_t *node, struct tokenizer *t, struct mil_error *err) {
#define SPLIT_NAME(name, text) text,
    static const char *const names[] = {SPLIT_BEHAVIOR_MAP(SPLIT_NAME)};
#undef SPLIT_NAME
    const char *behavior = NULL;
    struct pretok_step *step = NULL;
    TRY(pretok_add(&t->pretok, PRETOK_SPLIT, &step, err));
    TRY(json_member_str(node, "Split", "behavior", true, &behavior, err));
    TRY(json_member_bool(node, "Split", "invert", false, &step->invert, err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(behavior, names[i]) == 0) {
            step->behavior = (enum split_behavior)i;
            return read_pattern(node, "pre_tokenizer Split", &step->pattern, err);
        }
    return error_set(err, MIL_UNSUPPORTED, "pre_tokenizer Split: behavior '%.40s' is not supported",
                     behavior);
}

static enum mil_status read_digits(const json_t *node, struct tokenizer *t, struct mil_error *err) {
    bool individual = false;
    TRY(json_member_bool(node, "Digits", "individual_digits", false, &individual, err));
    return pretok_add_isolated(&t->pretok, individual ? "\\p{N}" : "\\p{N}+", err);
}

static enum mil_status read_byte_level(const json_t *node, struct tokenizer *t,
                                       struct mil_error *err) {
    bool prefix = true, regex = true;
    TRY(json_member_bool(node, "ByteLevel", "add_prefix_space", false, &prefix, err));
    TRY(json_member_bool(node, "ByteLevel", "use_regex", false, &regex, err));
    if (prefix) {
        struct pretok_step *step;
        TRY(pretok_add(&t->pretok, PRETOK_PREFIX, &step, err));
        step->when = PREFIX_ALWAYS;
        TRY(pattern_init_literal(&step->pattern, " ", err));
    }
    t->bpe.byte_symbols = true;
    return regex ? pretok_add_isolated(&t->pretok, PRETOK_GPT2, err) : MIL_OK;
}

/* "always", "first", "never", or the older add_prefix_space. */
static enum mil_status read_scheme(const json_t *node, enum prefix_when *when,
                                   struct mil_error *err) {
    static const char *const names[] = {
        [PREFIX_NEVER] = "never", [PREFIX_ALWAYS] = "always", [PREFIX_FIRST] = "first"};
    bool add = true;
    TRY(json_member_bool(node, "Metaspace", "add_prefix_space", false, &add, err));
    const char *scheme = add ? "always" : "never";
    TRY(json_member_str(node, "Metaspace", "prepend_scheme", false, &scheme, err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(scheme, names[i]) == 0) {
            *when = (enum prefix_when)i;
            return MIL_OK;
        }
    return error_set(err, MIL_UNSUPPORTED, "Metaspace: prepend_scheme '%.40s' is not supported",
                     scheme);
}

static enum mil_status read_metaspace(const json_t *node, struct tokenizer *t,
                                      struct mil_error *err) {
    const char *mark = "\xe2\x96\x81";
    bool cut = true;
    struct pretok_step *step = NULL;
    TRY(json_member_str(node, "Metaspace", "replacement", false, &mark, err));
    TRY(json_member_bool(node, "Metaspace", "split", false, &cut, err));
    TRY(pretok_add(&t->pretok, PRETOK_REPLACE, &step, err));
    TRY(pattern_init_literal(&step->pattern, mark, err));
    TRY(pretok_add(&t->pretok, PRETOK_PREFIX, &step, err));
    TRY(read_scheme(node, &step->when, err));
    TRY(pattern_init_literal(&step->pattern, mark, err));
    if (!cut) return MIL_OK;
    TRY(pretok_add(&t->pretok, PRETOK_SPLIT, &step, err));
    step->behavior = SPLIT_WITH_NEXT;
    return pattern_init_literal(&step->pattern, mark, err);
}

/* ByteLevel must come last: a step behind it would see the byte alphabet instead of the text. */
static enum mil_status check_last(const json_t *node, struct tokenizer *t, struct mil_error *err) {
    const json_t *list = json_object_get(node, "pretokenizers");
    for (size_t i = 0; i + 1 < json_array_size(list); i++) {
        const char *type = json_string_value(json_object_get(json_array_get(list, i), "type"));
        if (type && (strcmp(type, "ByteLevel") == 0 || strcmp(type, "Sequence") == 0) &&
            t->bpe.byte_symbols)
            return error_set(err, MIL_UNSUPPORTED,
                             "pre_tokenizer: a step after ByteLevel is not supported");
    }
    return MIL_OK;
}

enum mil_status tokenizer_read_pretok(const json_t *node, struct tokenizer *t,
                                      struct mil_error *err) {
    static const struct step_row rows[] = {{"Split", read_split},
                                           {"Digits", read_digits},
                                           {"ByteLevel", read_byte_level},
                                           {"Metaspace", read_metaspace}};
    static const struct part part = {"pre_tokenizer", "pretokenizers", rows,
                                     sizeof rows / sizeof *rows};
    TRY(read_part(&part, node, t, 0, err));
    return check_last(node, t, err);
}

/* --- normalizer --- */

static enum mil_status read_prepend(const json_t *node, struct tokenizer *t,
                                    struct mil_error *err) {
    const char *text = NULL;
    struct normal_step *step = NULL;
    TRY(json_member_str(node, "Prepend", "prepend", true, &text, err));
    TRY(normalizer_add(&t->normalizer, NORMAL_PREPEND, &step, err));
    str_add(&step->text, text);
    return str_status(&step->text, err);
}

static enum mil_status read_replace(const json_t *node, struct tokenizer *t,
                                    struct mil_error *err) {
    const char *text = NULL;
    struct normal_step *step = NULL;
    TRY(json_member_str(node, "Replace", "content", true, &text, err));
    TRY(normalizer_add(&t->normalizer, NORMAL_REPLACE, &step, err));
    str_add(&step->text, text);
    TRY(str_status(&step->text, err));
    return read_pattern(node, "normalizer Replace", &step->pattern, err);
}

static enum mil_status read_form(const json_t *node, struct tokenizer *t, struct mil_error *err) {
#define FORM_NAME(name, text) text,
    static const char *const names[] = {UNICODE_FORM_MAP(FORM_NAME)};
#undef FORM_NAME
    const char *type = json_string_value(json_object_get(node, "type"));
    struct normal_step *step = NULL;
    TRY(normalizer_add(&t->normalizer, NORMAL_UNICODE, &step, err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(type, names[i]) == 0) step->form = (enum unicode_form)i;
    return MIL_OK;
}

enum mil_status tokenizer_read_normalizer(const json_t *node, struct tokenizer *t,
                                          struct mil_error *err) {
    static const struct step_row rows[] = {{"Prepend", read_prepend}, {"Replace", read_replace},
                                           {"NFC", read_form},        {"NFD", read_form},
                                           {"NFKC", read_form},       {"NFKD", read_form}};
    static const struct part part = {"normalizer", "normalizers", rows, sizeof rows / sizeof *rows};
    return read_part(&part, node, t, 0, err);
}

/* --- decoder --- */

static enum mil_status decode_bytes(const json_t *node, struct tokenizer *t,
                                    struct mil_error *err) {
    (void)node;
    if (!t->bpe.byte_symbols)
        return error_set(err, MIL_UNSUPPORTED,
                         "decoder ByteLevel without a ByteLevel pre_tokenizer is not supported");
    return decoder_add(&t->decoder, DECODE_BYTES, NULL, NULL, NULL, err);
}

static enum mil_status decode_replace(const json_t *node, struct tokenizer *t,
                                      struct mil_error *err) {
    const char *to = NULL;
    const char *from =
        json_string_value(json_object_get(json_object_get(node, "pattern"), "String"));
    TRY(json_member_str(node, "Replace", "content", true, &to, err));
    if (!from || !*from)
        return error_set(err, MIL_UNSUPPORTED,
                         "decoder Replace: only a non-empty String pattern is supported");
    return decoder_add(&t->decoder, DECODE_REPLACE, from, to, NULL, err);
}

static enum mil_status decode_fallback(const json_t *node, struct tokenizer *t,
                                       struct mil_error *err) {
    (void)node;
    return decoder_add(&t->decoder, DECODE_FALLBACK, NULL, NULL, NULL, err);
}

static enum mil_status decode_fuse(const json_t *node, struct tokenizer *t, struct mil_error *err) {
    (void)node;
    return decoder_add(&t->decoder, DECODE_FUSE, NULL, NULL, NULL, err);
}

static enum mil_status decode_strip(const json_t *node, struct tokenizer *t,
                                    struct mil_error *err) {
    const char *content = NULL;
    struct decode_step *step = NULL;
    TRY(json_member_str(node, "Strip", "content", true, &content, err));
    TRY(decoder_add(&t->decoder, DECODE_STRIP, content, NULL, &step, err));
    TRY(json_member_i64(node, "Strip", "start", true, 0, INT32_MAX, &step->start, err));
    return json_member_i64(node, "Strip", "stop", true, 0, INT32_MAX, &step->stop, err);
}

static enum mil_status decode_metaspace(const json_t *node, struct tokenizer *t,
                                        struct mil_error *err) {
    const char *mark = "\xe2\x96\x81";
    enum prefix_when when;
    TRY(json_member_str(node, "Metaspace", "replacement", false, &mark, err));
    TRY(read_scheme(node, &when, err));
    if (when == PREFIX_NEVER) return decoder_add(&t->decoder, DECODE_REPLACE, mark, " ", NULL, err);
    return decoder_add(&t->decoder, DECODE_FIRST_SPACE, mark, NULL, NULL, err);
}

enum mil_status tokenizer_read_decoder(const json_t *node, struct tokenizer *t,
                                       struct mil_error *err) {
    static const struct step_row rows[] = {
        {"ByteLevel", decode_bytes}, {"Replace", decode_replace}, {"ByteFallback", decode_fallback},
        {"Fuse", decode_fuse},       {"Strip", decode_strip},     {"Metaspace", decode_metaspace}};
    static const struct part part = {"decoder", "decoders", rows, sizeof rows / sizeof *rows};
    TRY(read_part(&part, node, t, 0, err));
    bool maps = false;
    for (size_t i = 0; i < t->decoder.n; i++)
        maps = maps || t->decoder.steps[i].kind == DECODE_BYTES;
    if (t->bpe.byte_symbols && (!maps || t->decoder.n != 1))
        return error_set(err, MIL_UNSUPPORTED,
                         "the decoder of a byte-level tokenizer must be "
                         "ByteLevel alone");
    t->decoder.join_by_space = t->decoder.n == 0;
    return MIL_OK;
}

/* --- post_processor --- */

static enum mil_status post_nothing(const json_t *node, struct tokenizer *t,
                                    struct mil_error *err) {
    (void)node, (void)t, (void)err; /* ByteLevel here only trims offsets, which ours do not need */
    return MIL_OK;
}

static enum mil_status post_special(const json_t *node, const char *name, struct tokenizer *t,
                                    bool before, struct mil_error *err) {
    const json_t *known = json_object_get(json_object_get(node, "special_tokens"), name);
    const json_t *ids = json_object_get(known, "ids");
    if (!json_is_array(ids) || json_array_size(ids) == 0)
        return error_set(err, MIL_INPUT,
                         "post_processor: no ids are given for the special token '%.60s'", name);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        TRY(tokenizer_add_affix(t, before, json_is_integer(id) ? json_integer_value(id) : -1, err));
    }
    return MIL_OK;
}

static enum mil_status post_template(const json_t *node, struct tokenizer *t,
                                     struct mil_error *err) {
    const json_t *single = json_object_get(node, "single");
    bool seen = false;
    if (t->n_prefix || t->n_suffix)
        return error_set(err, MIL_UNSUPPORTED, "post_processor: two templates are not supported");
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        const json_t *special = json_object_get(item, "SpecialToken");
        const char *name = json_string_value(json_object_get(special, "id"));
        const char *sequence =
            json_string_value(json_object_get(json_object_get(item, "Sequence"), "id"));
        if (name)
            TRY(post_special(node, name, t, !seen, err));
        else if (!sequence || strcmp(sequence, "A") != 0 || seen)
            return error_set(err, MIL_UNSUPPORTED,
                             "post_processor: item %zu of `single` is not supported", i);
        else
            seen = true;
    }
    if (seen) return MIL_OK;
    return error_set(err, MIL_INPUT, "post_processor: `single` lacks the sequence A");
}

enum mil_status tokenizer_read_post_processor(const json_t *node, struct tokenizer *t,
                                              struct mil_error *err) {
    static const struct step_row rows[] = {{"ByteLevel", post_nothing},
                                           {"TemplateProcessing", post_template}};
    static const struct part part = {"post_processor", "processors", rows,
                                     sizeof rows / sizeof *rows};
    return read_part(&part, node, t, 0, err);
}
