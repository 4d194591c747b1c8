/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - milora-synth-model: a made-up model of a published shape, as a Hugging Face directory.
 *
 * config.json and bf16 shards of at most 5 GB.  The chosen modules of the chosen layers get weights
 * with realistic spectra (weights.h), the norms ones; everything else is a hole in the file, zeros
 * that take no disk: such a model is for decompositions, not for talking.  There is no tokenizer.
 * Memory: one matrix and its scratch.  The directory is whole or absent (io/file.h). */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/threads.h"
#include "io/file.h"
#include "io/json.h"
#include "synth/sparse.h"
#include "synth/weights.h"

enum { NAME_CAP = 64, PER_LAYER = SYNTH_KINDS + 2 };
static const uint64_t shard_limit = 5000000000u;

/* What is in a tensor: a module of a layer, ones, or nothing (a hole). */
struct content {
    enum { HOLE, ONES, MODULE } what;
    enum synth_kind kind;
    int layer;
};
struct plan {
    const struct synth_model *shape;
    int64_t layers;
    unsigned modules;
    uint64_t seed;
    size_t n, shards;
    struct st_decl *decls;
    struct content *contents;
    char (*names)[NAME_CAP];
    size_t *shard;           /* of each tensor, ascending */
    uint64_t bytes, written; /* of all tensors; of those that are no holes */
};

static const char usage[] =
    "usage: milora-synth-model --shape NAME [options] OUT\n"
    "Write a made-up model with realistic spectra as a Hugging Face directory (bf16).\n"
    "  --shape NAME     smollm2-135m, llama2-7b, llama3-8b, llama3-70b\n"
    "  --layers N       that many layers (all)\n"
    "  --modules LIST   of q,k,v,o,gate,up,down (q,k,v,up,down); the others, the embeddings and "
    "the\n"
    "                   head are holes: zeros that take no disk\n"
    "  --seed S         (1)\n"
    "  --threads N      (all)\n"
    "example: milora-synth-model --shape llama2-7b --layers 4 /tmp/synth-7b\n";

/* ---- what the model holds ---- */

static void add_tensor(struct plan *p, struct content c, const char *name, int64_t rows,
                       int64_t cols) {
    size_t i = p->n++;
    snprintf(p->names[i], NAME_CAP, "%s", name);
    p->contents[i] = c;
    p->decls[i] = (struct st_decl){p->names[i], DT_BF16, cols ? 2 : 1, {rows, cols}};
    uint64_t bytes = sparse_tensor_bytes(&p->decls[i]);
    p->bytes += bytes;
    if (c.what != HOLE) p->written += bytes;
}

static void add_layer(struct plan *p, int layer) {
    static const char *const paths[SYNTH_KINDS] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm"};
    char name[NAME_CAP];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, norms[i]);
        add_tensor(p, (struct content){.what = ONES}, name, p->shape->width, 0);
    }
    for (int i = 0; i < SYNTH_KINDS; i++) {
        struct content c = {p->modules & 1u << i ? MODULE : HOLE, (enum synth_kind)i, layer};
        int64_t m, n;
        synth_module_shape(p->shape, c.kind, &m, &n);
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, paths[i]);
        add_tensor(p, c, name, m, n);
    }
}

/* Tensors in order into shards of at most shard_limit bytes (a larger tensor has its own). */
static void assign_shards(struct plan *p) {
    uint64_t used = 0;
    size_t shard = 0;
    for (size_t i = 0; i < p->n; i++) {
        uint64_t bytes = sparse_tensor_bytes(&p->decls[i]);
        if (used && used + bytes > shard_limit) {
            shard++;
            used = 0;
        }
        used += bytes;
        p->shard[i] = shard;
    }
    p->shards = shard + 1;
}

static void plan_release(struct plan *p) {
    mem_free(p->decls);
    mem_free(p->contents);
    mem_free(p->names);
    mem_free(p->shard);
}

static enum mil_status plan_fill(struct plan *p, struct mil_error *err) {
    size_t most = (size_t)p->layers * PER_LAYER + 3;
    const struct synth_model *s = p->shape;
    p->decls = mem_alloc(MEM_IO, most, sizeof *p->decls);
    p->contents = mem_alloc(MEM_IO, most, sizeof *p->contents);
    p->names = mem_alloc(MEM_IO, most, sizeof *p->names);
    p->shard = mem_alloc(MEM_IO, most, sizeof *p->shard);
    if (!p->decls || !p->contents || !p->names || !p->shard) return error_nomem(err, 0);
    add_tensor(p, (struct content){.what = HOLE}, "model.embed_tokens.weight", s->vocab, s->width);
    for (int i = 0; i < (int)p->layers; i++) add_layer(p, i);
    add_tensor(p, (struct content){.what = ONES}, "model.norm.weight", s->width, 0);
    if (!s->tied)
        add_tensor(p, (struct content){.what = HOLE}, "lm_head.weight", s->vocab, s->width);
    assign_shards(p);
    return MIL_OK;
}

/* ---- files ---- */

static enum mil_status write_json(const char *dir, const char *name, json_t *root,
                                  struct mil_error *err) {
    char path[PATH_CAP];
    enum mil_status st = root ? path_join(path, dir, name, err) : error_nomem(err, 0);
    if (st == MIL_OK) st = json_write_file(path, root, err);
    json_decref(root);
    return st;
}

static enum mil_status write_config(const struct plan *p, const char *dir, struct mil_error *err) {
    const struct synth_model *s = p->shape;
    json_t *root = json_pack(
        "{s[s] ss ss si si sI sI sI sI sI sI sI sf sf sf sb sb sb ss sb}", "architectures",
        "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu", "bos_token_id", s->bos,
        "eos_token_id", s->eos, "hidden_size", (json_int_t)s->width, "intermediate_size",
        (json_int_t)s->ffn, "num_hidden_layers", (json_int_t)p->layers, "num_attention_heads",
        (json_int_t)s->heads, "num_key_value_heads", (json_int_t)s->kv_heads, "vocab_size",
        (json_int_t)s->vocab, "max_position_embeddings", (json_int_t)s->positions, "rms_norm_eps",
        s->norm_eps, "rope_theta", s->rope_theta, "initializer_range", 0.02, "attention_bias", 0,
        "mlp_bias", 0, "tie_word_embeddings", (int)s->tied, "torch_dtype", "bfloat16", "use_cache",
        1);
    return write_json(dir, "config.json", root, err);
}

static void shard_name(const struct plan *p, size_t shard, char out[NAME_CAP]) {
    if (p->shards == 1)
        snprintf(out, NAME_CAP, "model.safetensors");
    else
        snprintf(out, NAME_CAP, "model-%05zu-of-%05zu.safetensors", shard + 1, p->shards);
}

static enum mil_status write_index(const struct plan *p, const char *dir, struct mil_error *err) {
    char name[NAME_CAP];
    if (p->shards == 1) return MIL_OK;
    json_t *root = json_object(), *map = json_object();
    json_object_set_new(root, "metadata", json_pack("{sI}", "total_size", (json_int_t)p->bytes));
    for (size_t i = 0; i < p->n; i++) {
        shard_name(p, p->shard[i], name);
        json_object_set_new(map, p->names[i], json_string(name));
    }
    json_object_set_new(root, "weight_map", map);
    return write_json(dir, "model.safetensors.index.json", root, err);
}

static enum mil_status write_tensor(const struct plan *p, size_t i, struct sparse_file *f,
                                    uint64_t offset, struct mil_error *err) {
    const struct content *c = &p->contents[i];
    uint64_t bytes = sparse_tensor_bytes(&p->decls[i]);
    if (c->what == HOLE) return MIL_OK;
    bf16 *w = mem_alloc(MEM_WEIGHTS, bytes, 1);
    if (!w) return error_nomem(err, bytes);
    enum mil_status st = MIL_OK;
    if (c->what == MODULE) {
        struct synth_spec spec = {c->kind, p->decls[i].shape[0], p->decls[i].shape[1], c->layer,
                                  p->seed};
        st = synth_weight(&spec, w, err);
    } else {
        for (uint64_t j = 0; j < bytes / sizeof *w; j++) w[j] = bf16_from_f32(1);
    }
    if (st == MIL_OK) st = sparse_write(f, offset, w, bytes, err);
    mem_free(w);
    return st;
}

/* Tensors [first, end), which are one shard. */
static enum mil_status write_shard(const struct plan *p, const char *dir, size_t first, size_t end,
                                   struct mil_error *err) {
    char name[NAME_CAP], path[PATH_CAP];
    struct sparse_file f = {.fd = -1};
    uint64_t offset = 0;
    shard_name(p, p->shard[first], name);
    TRY(path_join(path, dir, name, err));
    TRY(sparse_create(&f, path, p->decls + first, end - first, err));
    enum mil_status st = MIL_OK;
    for (size_t i = first; i < end && st == MIL_OK; i++) {
        st = write_tensor(p, i, &f, offset, err);
        offset += sparse_tensor_bytes(&p->decls[i]);
        if (p->contents[i].what == MODULE && isatty(STDERR_FILENO))
            fprintf(stderr, "\r%s: tensor %zu of %zu ", name, i + 1, p->n);
    }
    if (isatty(STDERR_FILENO)) fputc('\n', stderr);
    enum mil_status closed = sparse_close(&f, st == MIL_OK ? err : NULL);
    return st != MIL_OK ? st : closed;
}

/* Holes need a file system that keeps them; what is written must fit in any case. */
static enum mil_status check_space(const struct plan *p, const struct stage *s,
                                   struct mil_error *err) {
    struct statvfs v;
    char want[32], have[32];
    if (statvfs(s->tmp, &v) != 0)
        return error_errno(err, errno, "%s: cannot ask for the free space", s->path);
    uint64_t free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    format_bytes(want, p->written);
    format_bytes(have, free_bytes);
    fprintf(stderr, "%s: %s to write, %s free\n", s->path, want, have);
    if (p->written + p->written / 64 < free_bytes) return MIL_OK;
    return error_set(err, MIL_IO,
                     "%s: %s to write, but only %s are free: choose another place, fewer --layers "
                     "or fewer --modules",
                     s->path, want, have);
}

static enum mil_status write_model(const struct plan *p, const char *out, struct mil_error *err) {
    struct stage stage;
    size_t end;
    TRY(stage_open(&stage, out, false, err));
    enum mil_status st;
    TRY_GOTO(check_space(p, &stage, err));
    TRY_GOTO(write_config(p, stage.tmp, err));
    TRY_GOTO(write_index(p, stage.tmp, err));
    for (size_t first = 0; first < p->n; first = end) {
        for (end = first; end < p->n && p->shard[end] == p->shard[first];) end++;
        TRY_GOTO(write_shard(p, stage.tmp, first, end, err));
    }
    return stage_commit(&stage, err);
fail:
    stage_abort(&stage);
    return st;
}

/* ---- the command line ---- */

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

struct options {
    const char *shape, *modules, *out;
    int64_t layers, seed, threads;
    bool help;
};

static enum mil_status parse(int argc, char **argv, struct options *o, struct mil_error *err) {
    static const struct option options[] = {{"shape", required_argument, NULL, 's'},
                                            {"layers", required_argument, NULL, 'l'},
                                            {"modules", required_argument, NULL, 'm'},
                                            {"seed", required_argument, NULL, 'S'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    int c;
    *o = (struct options){.modules = "q,k,v,up,down", .seed = 1};
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) switch (c) {
        case 's': o->shape = optarg; break;
        case 'm': o->modules = optarg; break;
        case 'l': TRY(number("layers", optarg, 1, 1000, &o->layers, err)); break;
        case 'S': TRY(number("seed", optarg, 0, INT64_MAX, &o->seed, err)); break;
        case 't': TRY(number("threads", optarg, 1, 4096, &o->threads, err)); break;
        case 'h': o->help = true; break;
        default: return error_set(err, MIL_USAGE, "see --help");
        }
    if (o->help) return MIL_OK;
    if (!o->shape || optind + 1 != argc)
        return error_set(err, MIL_USAGE,
                         "give --shape NAME and one directory to write; see --help");
    o->out = argv[optind];
    return MIL_OK;
}

static enum mil_status make_plan(const struct options *o, struct plan *p, struct mil_error *err) {
    *p = (struct plan){.seed = (uint64_t)o->seed};
    TRY(synth_model_find(o->shape, &p->shape, err));
    TRY(synth_kinds_parse(o->modules, &p->modules, err));
    p->layers = o->layers ? o->layers : p->shape->layers;
    return plan_fill(p, err);
}

int main(int argc, char **argv) {
    struct mil_error err = {0};
    struct options o;
    struct plan p = {0};
    char written[32], all[32], peak[32];
    double start = clock_seconds();
    enum mil_status st = parse(argc, argv, &o, &err);
    if (st == MIL_OK && o.help) {
        fputs(usage, stdout);
        return 0;
    }
    threads_set((int)o.threads);
    if (st == MIL_OK) st = make_plan(&o, &p, &err);
    if (st == MIL_OK) st = write_model(&p, o.out, &err);
    if (st == MIL_OK)
        printf(
            "%s: %s, %lld layers, seed %lld: %zu tensors in %zu file%s, %s of %s written, %.1f s, "
            "peak RSS %s\n",
            o.out, o.shape, (long long)p.layers, (long long)o.seed, p.n, p.shards,
            p.shards == 1 ? "" : "s", format_bytes(written, p.written), format_bytes(all, p.bytes),
            clock_seconds() - start, format_bytes(peak, mem_peak_rss()));
    else
        fprintf(stderr, "milora-synth-model: %s\n", err.message);
    plan_release(&p);
    return mil_status_exit_code(st);
}
