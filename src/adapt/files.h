/* SPDX-License-Identifier: Apache-2.0 */
/* files.h - adapters as files: what the readers and writers of src/adapt share among themselves. */
#ifndef MIL_ADAPT_FILES_H
#define MIL_ADAPT_FILES_H

#include <jansson.h>

#include "adapt/internal.h"
#include "adapt/whole.h"
#include "io/safetensors.h"

/* ---- lists out of JSON (options_read.c) ---- */

/* Members of `root`, absent or null: none.  Strings stay root's; the arrays belong to the options, lists_release
 * frees them, also after failure. */

/* Names, or one pattern (*regex). */
enum mil_status names_read(const json_t *root, const char *key, const char *const **names,
                           size_t *n, bool *regex, struct mil_error *err);
/* An object of numbers in [min, max], integers only where whole is set. */
struct pattern_range {
    bool whole;
    double min, max;
};
enum mil_status patterns_read(const json_t *root, const char *key, struct pattern_range range,
                              const struct adapter_pattern **out, size_t *n, struct mil_error *err);
/* layers_to_transform: an integer or a list of them. */
enum mil_status layers_read(const json_t *root, struct adapter_options *o, struct mil_error *err);
/* modules_to_save under one spelling each; MIL_UNSUPPORTED: others than embed_tokens and lm_head. */
enum mil_status saved_modules_read(const json_t *root, struct adapter_options *o,
                                   struct mil_error *err);
/* "none", "all", "lora_only". */
enum mil_status bias_read(const json_t *root, const char *where, enum adapter_bias *out,
                          struct mil_error *err);
const char *bias_name(enum adapter_bias bias);
void lists_release(struct adapter_options *o);

/* ---- adapter_config.json (peft_config.c, peft_modules.c) ---- */

enum peft_kind { PEFT_LORA, PEFT_ADALORA };
/* What it says.  options: r is init_r of an AdaLoRA; alpha as written, rsLoRA not applied; strings are json's. */
struct peft_config {
    json_t *json;
    enum peft_kind kind;
    bool mica; /* B is frozen */
    struct adapter_options options;
    const char *base_path; /* may be NULL */
};
enum mil_status peft_config_read(const char *path, struct peft_config *out, struct mil_error *err);
void peft_config_release(struct peft_config *c);
/* Rank and effective alpha (scale * rank) of one module of a LoRA, patterns and rsLoRA applied. */
enum mil_status peft_config_rank(const struct peft_config *c, const char *module, int64_t *r,
                                 double *alpha, struct mil_error *err);
/* Which of the options' r triplets an AdaLoRA kept of one module: flags [r], *kept of them set.  *named: whether
 * rank_pattern has the module. */
enum mil_status peft_config_mask(const struct peft_config *c, const char *module, bool *flags,
                                 int64_t *kept, bool *named, struct mil_error *err);
/* Masks in rank_pattern. */
size_t peft_config_masks(const struct peft_config *c);

/* ---- milora.json (side_file.c, side_write.c) ---- */

/* method NULL: there is none.  options: resolved; strings are json's. */
struct side_file {
    json_t *json;
    const struct method *method;
    struct adapter_options options;
    int64_t layers;
    char fingerprint[HASH_HEX];
};
enum mil_status side_file_read(const char *dir, struct side_file *out, struct mil_error *err);
void side_file_release(struct side_file *s);
enum mil_status side_file_write(const struct adapter *a, const char *dir, struct mil_error *err);
/* r and alpha (as given, rsLoRA not applied) that the options give a module. */
enum mil_status options_rank(const struct adapter_options *o, const char *module, int64_t *r,
                             double *alpha, struct mil_error *err);

/* ---- reading tensors (load.c, load_delta.c, load_whole.c) ---- */

struct loading {
    const char *dir;
    struct peft_config config;
    struct side_file side;
    struct st_file *file;
    bool *used;                      /* of its tensors */
    int64_t layers;                  /* of the base, or as many as the tensors show */
    const struct model_config *base; /* NULL: not known */
    bool *selected;
    int64_t spread; /* elements made from masks so far */
    size_t masks;   /* of rank_pattern that were used */
    struct adapter *adapter;
};
/* A tensor by name, marked as used; NULL: there is none. */
const struct st_tensor *loading_find(struct loading *l, const char *key);
/* t as finite f32 (mem_free), its shape [rows, cols] (cols < 0: a vector); a length of 0 is taken from the tensor,
 * unless `empty`. */
struct wanted_shape {
    int64_t *rows, *cols;
    bool vector, empty;
};
enum mil_status tensor_read(const struct st_tensor *t, struct wanted_shape want, float **out,
                            struct mil_error *err);
/* Factors of d, whose layer and module are set. */
enum mil_status delta_load(struct loading *l, struct delta *d, struct mil_error *err);
enum mil_status wholes_load(struct loading *l, struct mil_error *err);

/* ---- PEFT's keys (peft_keys.c) ---- */

enum { PEFT_KEY_CAP = MODULE_NAME_CAP + 64 };
/* "base_model.model.<module>.<part>" */
void peft_key(char out[PEFT_KEY_CAP], int64_t layer, enum module m, const char *part);
/* Of a whole.  adapted: a bias whose module is adapted lies one level deeper. */
void peft_whole_key(char out[PEFT_KEY_CAP], const struct whole *w, bool adapted);
/* Does the adapter adapt the module? */
bool adapter_adapts(const struct adapter *a, int64_t layer, enum module m);

/* ---- writing (peft_write.c, peft_tensors.c, adalora_file.c, save.c) ---- */

/* How an AdaLoRA is laid out for PEFT, which has one init_r and one alpha for all modules. */
struct adalora_layout {
    int64_t init_r;
    double alpha;
    bool masked; /* some triplet is left out */
};
void adalora_layout(const struct adapter *a, struct adalora_layout *out);
/* Is triplet t of d kept? */
bool adalora_kept(const struct delta *d, int64_t t);
int64_t adalora_rank(const struct delta *d);
/* What Lambda is multiplied by so that PEFT's scale gives that of d. */
double adalora_fold(const struct adalora_layout *l, const struct delta *d);

/* adapter_config.json and adapter_model.safetensors into dir.  residual: the rank-r LoRA of the
 * paper's layout (A, B0 + dB) for the base `base_path`. */
enum mil_status peft_write(const struct adapter *a, const char *dir, bool residual,
                           const char *base_path, struct mil_error *err);
enum mil_status peft_write_tensors(const struct adapter *a, const char *path, bool residual,
                                   struct mil_error *err);
static inline bool adapter_is_scaled(const struct adapter *a) {
    return a->n > 0 && a->deltas[0].form == DELTA_SCALED;
}
static inline bool adapter_has_dora(const struct adapter *a) {
    bool any = false;
    for (size_t i = 0; i < a->n; i++) any |= a->deltas[i].dora;
    return any;
}
/* The modules that a adapts: suffixes where every layer is the same, else full paths.  New reference. */
json_t *target_modules(const struct adapter *a);
/* 8, not 8.0, where the value is a whole number: PEFT's own files have integers. */
json_t *json_number(double x);

/* README.md, the model card.  side_file: milora.json lies beside it. */
enum mil_status card_write(const struct adapter *a, const char *dir, bool side_file,
                           struct mil_error *err);

/* ---- other forms (plain.c, export.c, residual.c, gguf_lora.c) ---- */

/* A copy as plain LoRA (form LORA, no method): factors as they are saved, pruned triplets of an AdaLoRA dropped and
 * modules without rank left out.  MIL_UNSUPPORTED with the remedy: a magnitude. */
enum mil_status adapter_as_lora(const struct adapter *a, struct adapter **out,
                                struct mil_error *err);
/* Into s->tmp; what 16 bits lose is logged. */
struct stage;
enum mil_status residual_write(const struct adapter *a, const struct checkpoint *base,
                               enum dtype dtype, const struct stage *s, struct mil_error *err);
/* A stage for `out`, which may be an empty directory, and its end. */
enum mil_status output_open(struct stage *s, const char *out, struct mil_error *err);
enum mil_status output_close(struct stage *s, enum mil_status st, struct mil_error *err);
/* a: a plain LoRA. */
enum mil_status gguf_lora_write(const struct adapter *a, const char *name,
                                const struct model_config *c, const char *path,
                                struct mil_error *err);

/* ---- weights with changes (low_rank.c, model_dir.c) ---- */

/* One of several changes of the same weight. */
struct delta_term {
    const struct delta *delta;
    double weight;
};
/* w [m, n] += sum of weight * (W' - W): all of it in f64, rounded once to f32.  MIL_NUMERIC: as delta_add_to. */
enum mil_status deltas_add_to(const struct delta_term *terms, size_t n, float *w,
                              struct mil_error *err);

/* What becomes of the weights of a base.  changes: is v another one?  apply: rows [begin, begin + rows) of v, f32 in
 * w, in place; a module's matrix comes whole.  untie: the head gets a weight of its own, which is asked about as
 * "lm_head.weight" with the embeddings' values. */
struct weight_edit {
    bool (*changes)(void *ctx, const struct weight_view *v);
    enum mil_status (*apply)(void *ctx, const struct weight_view *v, int64_t begin, int64_t rows,
                             float *w, enum dtype stored, struct mil_error *err);
    bool untie;
    void *ctx;
};
/* Write base with its weights edited as a Hugging Face directory: every float weight as
 * `dtype` (DTYPES: as stored, block types as F16), shards, configuration and tokenizer files
 * carried over.  dir exists and is empty. */
enum mil_status model_dir_write(const struct checkpoint *base, const struct weight_edit *edit,
                                enum dtype dtype, const char *dir, struct mil_error *err);
/* The delta of a for a weight of base; NULL: none. */
const struct delta *adapter_delta_of(const struct adapter *a, const struct checkpoint *base,
                                     const struct weight_view *v);

#endif
