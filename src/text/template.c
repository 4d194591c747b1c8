/* SPDX-License-Identifier: Apache-2.0 */
/* template.c - see template.h.  A template is a row of the texts that stand around each turn:
 *
 *   bos [system_open S system_close] user_open U [input_open I] user_close
 *       assistant_open | answer_open A answer_close | answer_after   user_open ...
 *                      '------- the model learns ---'
 *
 * The texts are the published formats, byte for byte: Stanford Alpaca's prompts (alpaca_short is
 * the original, which PiSSA and MiLoRA use; alpaca has the newline after "### Response:" of its
 * later forms), ChatML with SmolLM2's default system message (chatml_bare has none), LLaMA 2 chat,
 * LLaMA 3 instruct, Vicuna 1.1.  Recorded renderings of transformers are in tests/text/data. */
#include "text/template.h"

#include <string.h>

#include "core/mem.h"

/* X(enumerator, name): in the order of the rows below */
#define TEMPLATE_MAP(X)                                                                            \
    X(T_ALPACA, "alpaca")                                                                          \
    X(T_ALPACA_SHORT, "alpaca_short")                                                              \
    X(T_CHATML, "chatml")                                                                          \
    X(T_CHATML_BARE, "chatml_bare")                                                                \
    X(T_LLAMA2, "llama2")                                                                          \
    X(T_LLAMA3, "llama3")                                                                          \
    X(T_VICUNA, "vicuna")                                                                          \
    X(T_PLAIN, "plain")

enum {
#define TEMPLATE_ENUM(id, text) id,
    TEMPLATE_MAP(TEMPLATE_ENUM)
#undef TEMPLATE_ENUM
        N_TEMPLATES
};
static const char *const names[] = {
#define TEMPLATE_NAME(id, text) text,
    TEMPLATE_MAP(TEMPLATE_NAME)
#undef TEMPLATE_NAME
        NULL};

struct chat_template {
    const char *bos;            /* once, at the beginning */
    const char *default_system; /* when the first message is none of the system's; NULL: nothing */
    const char *default_input;  /* the same when the user's message has an input; NULL: as above */
    const char *system_open, *system_close;
    const char *user_open, *input_open, *user_close;
    const char *assistant_open, *answer_open, *answer_close, *answer_after;
    const char *end_token;
    bool trim;           /* contents lose white space at both ends */
    bool alternate;      /* user, assistant, user, ... after an optional system message */
    bool single;         /* one question, one answer */
    bool system_in_user; /* the system's text stands inside the first user turn */
};

#define ALPACA_TASK "Below is an instruction that describes a task"
#define ALPACA_WRITE "Write a response that appropriately completes the request."
#define ALPACA_INPUT ", paired with an input that provides further context. "

static const struct chat_template templates[] = {
    [T_ALPACA] = {.default_system = ALPACA_TASK ". " ALPACA_WRITE,
                  .default_input = ALPACA_TASK ALPACA_INPUT ALPACA_WRITE,
                  .system_close = "\n\n",
                  .user_open = "### Instruction:\n",
                  .input_open = "\n\n### Input:\n",
                  .user_close = "\n\n",
                  .assistant_open = "### Response:\n",
                  .single = true},
    [T_ALPACA_SHORT] = {.default_system = ALPACA_TASK ". " ALPACA_WRITE,
                        .default_input = ALPACA_TASK ALPACA_INPUT ALPACA_WRITE,
                        .system_close = "\n\n",
                        .user_open = "### Instruction:\n",
                        .input_open = "\n\n### Input:\n",
                        .user_close = "\n\n",
                        .assistant_open = "### Response:",
                        .single = true},
    [T_CHATML] = {.default_system =
                      "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
                  .system_open = "<|im_start|>system\n",
                  .system_close = "<|im_end|>\n",
                  .user_open = "<|im_start|>user\n",
                  .input_open = "\n",
                  .user_close = "<|im_end|>\n",
                  .assistant_open = "<|im_start|>assistant\n",
                  .answer_close = "<|im_end|>",
                  .answer_after = "\n",
                  .end_token = "<|im_end|>"},
    [T_CHATML_BARE] = {.system_open = "<|im_start|>system\n",
                       .system_close = "<|im_end|>\n",
                       .user_open = "<|im_start|>user\n",
                       .input_open = "\n",
                       .user_close = "<|im_end|>\n",
                       .assistant_open = "<|im_start|>assistant\n",
                       .answer_close = "<|im_end|>",
                       .answer_after = "\n",
                       .end_token = "<|im_end|>"},
    [T_LLAMA2] = {.system_open = "<<SYS>>\n",
                  .system_close = "\n<</SYS>>\n\n",
                  .user_open = "<s>[INST] ",
                  .input_open = "\n",
                  .user_close = " [/INST]",
                  .answer_open = " ",
                  .answer_close = " </s>",
                  .end_token = "</s>",
                  .trim = true,
                  .alternate = true,
                  .system_in_user = true},
    [T_LLAMA3] = {.bos = "<|begin_of_text|>",
                  .system_open = "<|start_header_id|>system<|end_header_id|>\n\n",
                  .system_close = "<|eot_id|>",
                  .user_open = "<|start_header_id|>user<|end_header_id|>\n\n",
                  .input_open = "\n",
                  .user_close = "<|eot_id|>",
                  .assistant_open = "<|start_header_id|>assistant<|end_header_id|>\n\n",
                  .answer_close = "<|eot_id|>",
                  .end_token = "<|eot_id|>",
                  .trim = true},
    [T_VICUNA] = {.default_system =
                      "A chat between a curious user and an artificial intelligence assistant. "
                      "The assistant gives helpful, detailed, and polite answers to the user's "
                      "questions.",
                  .system_close = " ",
                  .user_open = "USER: ",
                  .input_open = "\n",
                  .user_close = " ",
                  .assistant_open = "ASSISTANT:",
                  .answer_open = " ",
                  .answer_close = "</s>",
                  .end_token = "</s>",
                  .alternate = true},
    [T_PLAIN] = {.input_open = "\n"},
};

const char *const *template_names(void) {
    return names;
}

enum mil_status template_find(const char *name, const struct chat_template **out,
                              struct mil_error *err) {
    for (size_t i = 0; i < N_TEMPLATES; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = &templates[i];
            return MIL_OK;
        }
    const char *near = str_nearest(name, names, N_TEMPLATES);
    struct str known = {0};
    for (size_t i = 0; i < N_TEMPLATES; i++) str_addf(&known, "%s%s", i ? ", " : "", names[i]);
    error_set(err, MIL_USAGE, "template '%.60s' is not known%s%s%s; there are %s", name,
              near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "", str_c(&known));
    str_release(&known);
    return MIL_USAGE;
}

const char *template_name(const struct chat_template *t) {
    return names[t - templates];
}

const char *template_end_token(const struct chat_template *t) {
    return t->end_token;
}

void rendered_release(struct rendered *r) {
    str_release(&r->text);
    mem_free(r->spans);
    mem_free(r->literals);
    memset(r, 0, sizeof *r);
}

/* Append [begin, end), joined to the last span if it continues it. */
static void add_span(struct span **spans, size_t *n, size_t *cap, struct span s,
                     struct str *failure) {
    if (s.begin == s.end) return;
    if (*n && (*spans)[*n - 1].end == s.begin) {
        (*spans)[*n - 1].end = s.end;
        return;
    }
    if (*n == *cap) {
        size_t grown_cap = *cap ? 2 * *cap : 16;
        struct span *grown = mem_realloc(MEM_TEXT, *spans, grown_cap, sizeof *grown);
        if (!grown) {
            failure->failed = true;
            return;
        }
        *spans = grown;
        *cap = grown_cap;
    }
    (*spans)[(*n)++] = s;
}

static void literal(struct rendered *r, const char *text) {
    if (!text) return;
    size_t begin = r->text.len;
    str_add(&r->text, text);
    if (!r->text.failed)
        add_span(&r->literals, &r->n_literals, &r->cap_literals, (struct span){begin, r->text.len},
                 &r->text);
}

/* White space that Python's str.strip removes. */
static bool is_blank(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Contents, without white space at the sides that are asked for. */
static void content(struct rendered *r, const char *text, bool left, bool right) {
    size_t n = strlen(text), len;
    uint32_t c;
    while (left && n && (len = utf8_decode(text, n, &c)) > 0 && is_blank(c)) text += len, n -= len;
    while (right && n) {
        size_t at = n - 1;
        while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80) at--;
        if (utf8_decode(text + at, n - at, &c) != n - at || !is_blank(c)) break;
        n = at;
    }
    str_addn(&r->text, text, n);
}

static const char *input_of(const struct message *m) {
    return m->input && *m->input ? m->input : NULL;
}

static void user_turn(const struct chat_template *t, const struct message *m,
                      const struct message *system, struct rendered *r) {
    const char *input = input_of(m);
    literal(r, t->user_open);
    if (system) {
        literal(r, t->system_open);
        content(r, system->content, false, false);
        literal(r, t->system_close);
    }
    /* With a system text in front only the right end of the whole is an end (LLaMA 2). */
    content(r, m->content, t->trim && !system, t->trim && !input);
    if (input) {
        literal(r, t->input_open);
        content(r, input, false, t->trim);
    }
    literal(r, t->user_close);
}

static void assistant_turn(const struct chat_template *t, const struct message *m,
                           struct rendered *r) {
    literal(r, t->assistant_open);
    size_t begin = r->text.len;
    literal(r, t->answer_open);
    content(r, m->content, t->trim, t->trim);
    literal(r, t->answer_close);
    add_span(&r->spans, &r->n_spans, &r->cap_spans, (struct span){begin, r->text.len}, &r->text);
    literal(r, t->answer_after);
}

static enum mil_status check_roles(const struct chat_template *t, const struct message *messages,
                                   size_t n, bool open_turn, struct mil_error *err) {
    size_t first = n && messages[0].role == ROLE_SYSTEM ? 1 : 0;
    if (first == n) return error_set(err, MIL_INPUT, "a conversation without a turn");
    if (t->single && n - first > (open_turn ? 1u : 2u))
        return error_set(err, MIL_INPUT,
                         "template %s holds one question and one answer, the conversation has %zu "
                         "turns: use a chat template (chatml, llama2, llama3, vicuna)",
                         template_name(t), n - first);
    if (!t->alternate && !t->single) return MIL_OK;
    for (size_t i = first; i < n; i++) {
        enum role want = (i - first) % 2 == 0 ? ROLE_USER : ROLE_ASSISTANT;
        if (messages[i].role != want)
            return error_set(err, MIL_INPUT,
                             "template %s: message %zu must be from the %s (turns alternate, "
                             "beginning with the user)",
                             template_name(t), i + 1, want == ROLE_USER ? "user" : "assistant");
    }
    if (open_turn && messages[n - 1].role == ROLE_ASSISTANT)
        return error_set(err, MIL_INPUT,
                         "template %s: the last message before an answer must be "
                         "from the user",
                         template_name(t));
    return MIL_OK;
}

static void system_turn(const struct chat_template *t, const char *text, struct rendered *r) {
    literal(r, t->system_open);
    content(r, text, t->trim, t->trim);
    literal(r, t->system_close);
}

static void default_turn(const struct chat_template *t, const struct message *first,
                         struct rendered *r) {
    if (!t->default_system || first->role == ROLE_SYSTEM) return;
    literal(r, t->system_open);
    literal(r, input_of(first) && t->default_input ? t->default_input : t->default_system);
    literal(r, t->system_close);
}

enum mil_status template_render(const struct chat_template *t, const struct message *messages,
                                size_t n, bool open_turn, struct rendered *r,
                                struct mil_error *err) {
    str_reset(&r->text);
    r->n_spans = r->n_literals = 0;
    TRY(check_roles(t, messages, n, open_turn, err));
    const struct message *pending = NULL; /* a system text that waits for the user's turn */
    r->adds_bos = t->bos || (t->user_open && str_starts(t->user_open, "<s>"));
    literal(r, t->bos);
    default_turn(t, &messages[0], r);
    for (size_t i = 0; i < n; i++) {
        const struct message *m = &messages[i];
        if (m->role == ROLE_SYSTEM && t->system_in_user) {
            pending = m;
        } else if (m->role == ROLE_SYSTEM) {
            system_turn(t, m->content, r);
        } else if (m->role == ROLE_USER) {
            user_turn(t, m, pending, r);
            pending = NULL;
        } else {
            assistant_turn(t, m, r);
        }
    }
    if (open_turn) literal(r, t->assistant_open);
    return str_status(&r->text, err);
}

enum mil_status template_encode(const struct chat_template *t, const struct tokenizer *tok,
                                const struct message *messages, size_t n, bool open_turn,
                                struct rendered *r, struct tokens *out, struct mil_error *err) {
    static const struct span nowhere = {0, 0};
    const unsigned flags = TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL;
    TRY(template_render(t, messages, n, open_turn, r, err));
    TRY(tokenizer_encode_within(tok, str_c(&r->text), r->text.len, flags,
                                r->n_literals ? r->literals : &nowhere, r->n_literals, out, err));
    /* The template wrote the marker that the tokenizer adds too: one is enough. */
    int32_t bos = tokenizer_bos(tok);
    if (r->adds_bos && out->n >= 2 && bos >= 0 && out->ids[0] == bos && out->ids[1] == bos) {
        out->n--;
        memmove(out->ids, out->ids + 1, out->n * sizeof *out->ids);
        memmove(out->starts, out->starts + 1, out->n * sizeof *out->starts);
    }
    /* An open turn is not finished: what the tokenizer adds at a text's end does not belong. */
    int32_t eos = tokenizer_eos(tok);
    if (open_turn && out->n && eos >= 0 && out->ids[out->n - 1] == eos &&
        (size_t)out->starts[out->n - 1] == r->text.len)
        out->n--;
    return MIL_OK;
}
