/* SPDX-License-Identifier: Apache-2.0 */
/* template_recognise.c - which of our templates a model's Jinja chat_template is.
 *
 * Jinja is not interpreted: a source is known or it is not.  What is compared is a hash of its
 * normal form, in which spellings that cannot change the rendering are made one: white space inside
 * tags goes, string literals are unescaped, quoted one way and joined, and a leading tag that only
 * defines add_generation_prompt goes.  Text outside tags and the trimming signs {%- -%} stay as
 * they are.
 */
#include <string.h>

#include "io/hash.h"
#include "text/template.h"

/* Normal forms that were seen to render as the template does: tools/golden/record_templates.py
 * recorded what transformers makes of them, tests/text/test_template.c compares. */
static const struct known_source {
    const char hash[HASH_HEX];
    const char *name;
} known_sources[] = {
    {"1416fd0864af2338870b45ae31f1f8d1", "chatml"},      /* SmolLM2 instruct */
    {"9629b3d8ae825c068a41cb35180ef2c7", "chatml_bare"}, /* the common form without a default */
    {"74a58728d221efe6b2944651467965e5", "llama2"},      /* LLaMA 2 chat */
    {"23ab6061dc7167744121eb667af7ca8c", "llama2"},      /* with a branch for later system turns */
    {"a347784d7d65b856b5c2572d9377a8f8", "llama3"}, /* LLaMA 3, header of the answer always there */
    {"95f8c5a86e6bd2891730b0da3c0f3d4f", "llama3"}, /* LLaMA 3 instruct */
};

/* A string literal at s (its opening quote), appended unescaped between \1 and \2; returns the byte
 * after it. */
static const char *copy_string(const char *s, struct str *out) {
    char quote = *s++;
    if (out->len >= 2 && memcmp(out->data + out->len - 2, "\2+", 2) == 0)
        out->data[out->len -= 2] = 0; /* 'a' + 'b' is 'ab' */
    else
        str_addc(out, '\1');
    for (; *s && *s != quote; s++) {
        if (*s == '\\' && s[1] == 'n') {
            str_addc(out, '\n');
            s++;
        } else {
            if (*s == '\\' && (s[1] == '\'' || s[1] == '"' || s[1] == '\\')) s++;
            str_addc(out, *s);
        }
    }
    str_addc(out, '\2');
    return *s ? s + 1 : s;
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* A tag at s ("{%" or "{{"), appended without white space that separates nothing. */
static const char *copy_tag(const char *s, struct str *out) {
    const char *end = s[1] == '%' ? "%}" : "}}";
    str_addn(out, s, 2);
    for (s += 2; *s && strncmp(s, end, 2) != 0;) {
        if (*s == '\'' || *s == '"') {
            s = copy_string(s, out);
            continue;
        }
        if (strchr(" \t\r\n", *s)) {
            char before = out->len ? out->data[out->len - 1] : 0;
            while (*s && strchr(" \t\r\n", *s)) s++;
            if (is_name(before) && is_name(*s)) str_addc(out, ' ');
            continue;
        }
        str_addc(out, *s++);
    }
    if (*s) {
        str_addn(out, s, 2);
        s += 2;
    }
    return s;
}

static void normal_form(const char *source, struct str *out) {
    static const char defines[] = "{%if not add_generation_prompt is defined%}"
                                  "{%set add_generation_prompt=false%}{%endif%}";
    for (const char *s = source; *s;)
        if (s[0] == '{' && (s[1] == '%' || s[1] == '{'))
            s = copy_tag(s, out);
        else
            str_addc(out, *s++);
    size_t n = sizeof defines - 1;
    if (out->len >= n && memcmp(out->data, defines, n) == 0) {
        memmove(out->data, out->data + n, out->len - n + 1);
        out->len -= n;
    }
    while (out->len && strchr(" \r\n", out->data[out->len - 1])) out->data[--out->len] = 0;
}

static enum mil_status hash_source(const char *source, char hex[HASH_HEX], struct mil_error *err) {
    struct str normal = {0};
    normal_form(source, &normal);
    enum mil_status st = str_status(&normal, err);
    struct hash *h = st == MIL_OK ? hash_new() : NULL;
    if (st == MIL_OK && !h) st = error_nomem(err, 0);
    if (h) {
        hash_add(h, str_c(&normal), normal.len);
        hash_hex(h, hex);
    }
    hash_free(&h);
    str_release(&normal);
    return st;
}

enum mil_status template_recognise(const char *source, const struct chat_template **out,
                                   struct mil_error *err) {
    char hex[HASH_HEX] = "";
    if (!source)
        return error_set(err, MIL_UNSUPPORTED,
                         "the model has no chat_template: name one with template=NAME or "
                         "--template NAME");
    TRY(hash_source(source, hex, err));
    for (size_t i = 0; i < sizeof known_sources / sizeof *known_sources; i++)
        if (memcmp(known_sources[i].hash, hex, HASH_HEX) == 0)
            return template_find(known_sources[i].name, out, err);
    return error_set(err, MIL_UNSUPPORTED,
                     "the model's chat_template is none that is known here (hash %s): name the "
                     "template that fits with template=NAME or --template NAME",
                     hex);
}
