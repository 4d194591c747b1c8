/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - the command line of bench_svd. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "svd/bench_svd.h"

const char options_usage[] =
    "usage: bench_svd [options]\n"
    "Time the partial SVD on made-up weights with realistic spectra (tools/synth/weights.h).\n"
    "  --shapes LIST    MxN or smollm2, 7b, 8b, 70b (all four)\n"
    "  --ends LIST      of bottom, top, middle (all; --model-shapes: bottom)\n"
    "  --ranks LIST     (8,32,64,128; --model-shapes: 64)\n"
    "  --kind KIND      q, k, v, o, gate, up, down: whose spectrum (by the shape)\n"
    "  --method NAME    only that method of the chain\n"
    "  --side-by-side   one matrix a thread; seconds are those of all divided by their number\n"
    "  --repeat N       the minimum of N runs is reported, --json has all (1)\n"
    "  --reference      also LAPACK's full dgesdd: its seconds, errors against it\n"
    "  --torch PYTHON   also torch.linalg.svd in f32 by that interpreter, as PEFT calls it\n"
    "  --model-shapes M all matrices of smollm2-135m, llama2-7b, llama3-8b, llama3-70b\n"
    "    --layers N       of so many layers (all)\n"
    "    --modules LIST   (q,k,v,up,down)\n"
    "    --alone, --side-by-side   never, always one matrix a thread (as memory allows: 1.5 GiB)\n"
    "  --layer N        whose weights the single matrices are (3; 0 has the heaviest head)\n"
    "  --seed S (1)  --threads N (all)  --json\n"
    "Ratios are peer's seconds / ours.\n";

static const struct {
    const char *name;
    size_t n;
    struct shape shapes[4];
} groups[] = {
    {"smollm2", 4, {{576, 576}, {192, 576}, {1536, 576}, {576, 1536}}},
    {"7b", 3, {{4096, 4096}, {4096, 11008}, {11008, 4096}}},
    {"8b", 2, {{4096, 14336}, {1024, 4096}}},
    {"70b", 1, {{8192, 28672}}},
};

static const char *const end_names[ENDS] = {"bottom", "top", "middle"};

const char *end_name(enum svd_end end) {
    return end_names[end];
}

static enum mil_status number(const char *option, const char *text, int64_t min, int64_t max,
                              int64_t *out, struct mil_error *err) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end || end == text || v < min || v > max)
        return error_set(err, MIL_USAGE, "--%s '%s': give a whole number from %lld to %lld", option,
                         text, (long long)min, (long long)max);
    *out = v;
    return MIL_OK;
}

/* ---- lists ---- */

typedef enum mil_status (*add_item)(struct options *o, const char *item, struct mil_error *err);

static enum mil_status each_item(struct options *o, const char *list, add_item add,
                                 struct mil_error *err) {
    char item[64];
    for (const char *s = list; *s || s == list;) {
        size_t n = strcspn(s, ",");
        snprintf(item, sizeof item, "%.*s", (int)n, s);
        TRY(add(o, item, err));
        s += n + (s[n] == ',');
    }
    return MIL_OK;
}

static enum mil_status add_shape(struct options *o, const char *item, struct mil_error *err) {
    struct shape one = {0};
    const struct shape *from = &one;
    size_t n = 1;
    long long m = 0, cols = 0;
    char rest;
    if (sscanf(item, "%lldx%lld%c", &m, &cols, &rest) == 2 && m > 0 && cols > 0 && m <= 1 << 20 &&
        cols <= 1 << 20)
        one = (struct shape){m, cols};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strcmp(item, groups[i].name) == 0) {
            from = groups[i].shapes;
            n = groups[i].n;
        }
    if (from->m == 0)
        return error_set(err, MIL_USAGE,
                         "--shapes '%s': give MxN (up to %d) or smollm2, 7b, 8b, 70b", item,
                         1 << 20);
    if (o->n_shapes + n > MAX_SHAPES)
        return error_set(err, MIL_USAGE, "--shapes: at most %d", MAX_SHAPES);
    memcpy(o->shapes + o->n_shapes, from, n * sizeof *from);
    o->n_shapes += n;
    return MIL_OK;
}

static enum mil_status add_end(struct options *o, const char *item, struct mil_error *err) {
    for (int i = 0; i < ENDS; i++)
        if (strcmp(item, end_names[i]) == 0) {
            o->ends[i] = true;
            return MIL_OK;
        }
    return error_set(err, MIL_USAGE, "--ends '%s': known are bottom, top, middle", item);
}

static enum mil_status add_rank(struct options *o, const char *item, struct mil_error *err) {
    if (o->n_ranks == MAX_RANKS) return error_set(err, MIL_USAGE, "--ranks: at most %d", MAX_RANKS);
    return number("ranks", item, 1, 1 << 20, &o->ranks[o->n_ranks++], err);
}

/* ---- options ---- */

enum {
    SHAPES = 1,
    LIST_ENDS,
    RANKS,
    KIND,
    METHOD,
    SIDE,
    REPEAT,
    REFERENCE,
    TORCH,
    MODEL,
    LAYERS,
    MODULES,
    ALONE,
    LAYER,
    SEED,
    THREADS,
    JSON,
    HELP
};

static const struct option table[] = {{"shapes", required_argument, NULL, SHAPES},
                                      {"ends", required_argument, NULL, LIST_ENDS},
                                      {"ranks", required_argument, NULL, RANKS},
                                      {"kind", required_argument, NULL, KIND},
                                      {"method", required_argument, NULL, METHOD},
                                      {"side-by-side", no_argument, NULL, SIDE},
                                      {"repeat", required_argument, NULL, REPEAT},
                                      {"reference", no_argument, NULL, REFERENCE},
                                      {"torch", required_argument, NULL, TORCH},
                                      {"model-shapes", required_argument, NULL, MODEL},
                                      {"layers", required_argument, NULL, LAYERS},
                                      {"modules", required_argument, NULL, MODULES},
                                      {"alone", no_argument, NULL, ALONE},
                                      {"layer", required_argument, NULL, LAYER},
                                      {"seed", required_argument, NULL, SEED},
                                      {"threads", required_argument, NULL, THREADS},
                                      {"json", no_argument, NULL, JSON},
                                      {"help", no_argument, NULL, HELP},
                                      {0}};

static enum mil_status set_kind(struct options *o, const char *name, struct mil_error *err) {
    enum synth_kind kind;
    if (!synth_kind_from_name(name, &kind))
        return error_set(err, MIL_USAGE, "--kind '%s': known are q, k, v, o, gate, up, down", name);
    o->kind = (int)kind;
    return MIL_OK;
}

static enum mil_status set_option(struct options *o, int c, const char *arg,
                                  struct mil_error *err) {
    switch (c) {
    case SHAPES: return each_item(o, arg, add_shape, err);
    case LIST_ENDS: return each_item(o, arg, add_end, err);
    case RANKS: return each_item(o, arg, add_rank, err);
    case KIND: return set_kind(o, arg, err);
    case METHOD: o->method = arg; return MIL_OK;
    case SIDE: o->side_by_side = true; return MIL_OK;
    case REPEAT: return number("repeat", arg, 1, MAX_REPEAT, &o->repeat, err);
    case REFERENCE: o->reference = true; return MIL_OK;
    case TORCH: o->torch = arg; return MIL_OK;
    case MODEL: o->model = arg; return MIL_OK;
    case LAYERS: return number("layers", arg, 1, 1000, &o->layers, err);
    case MODULES: return synth_kinds_parse(arg, &o->modules, err);
    case ALONE: o->alone = true; return MIL_OK;
    case LAYER: return number("layer", arg, 0, 1000, &o->layer, err);
    case SEED: return number("seed", arg, 0, INT64_MAX, &o->seed, err);
    case THREADS: return number("threads", arg, 1, 256, &o->threads, err);
    case JSON: o->json = true; return MIL_OK;
    case HELP: o->help = true; return MIL_OK;
    default: return error_set(err, MIL_USAGE, "see --help");
    }
}

static enum mil_status fill_defaults(struct options *o, struct mil_error *err) {
    if (!o->n_shapes) TRY(each_item(o, "smollm2,7b,8b,70b", add_shape, err));
    if (!o->n_ranks) TRY(each_item(o, o->model ? "64" : "8,32,64,128", add_rank, err));
    if (!o->ends[0] && !o->ends[1] && !o->ends[2])
        TRY(each_item(o, o->model ? "bottom" : "bottom,top,middle", add_end, err));
    if (o->alone && o->side_by_side)
        return error_set(err, MIL_USAGE, "--alone and --side-by-side exclude each other");
    return MIL_OK;
}

enum mil_status options_parse(int argc, char **argv, struct options *o, struct mil_error *err) {
    int c;
    *o = (struct options){.kind = -1, .seed = 1, .repeat = 1, .layer = 3};
    TRY(synth_kinds_parse("q,k,v,up,down", &o->modules, err));
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) TRY(set_option(o, c, optarg, err));
    if (optind < argc)
        return error_set(err, MIL_USAGE, "'%s': see --help for the options", argv[optind]);
    return fill_defaults(o, err);
}
