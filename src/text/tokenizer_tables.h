/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_tables.h - the two large tables of tokenizer.json, model.vocab and model.merges, apart
 * from the rest of the file. */
#ifndef MIL_TEXT_TOKENIZER_TABLES_H
#define MIL_TEXT_TOKENIZER_TABLES_H

#include "text/json_pull.h"
#include "text/tokenizer_impl.h"

/* Each from its opening bracket to its closing one; text NULL: there is none. */
struct tokenizer_tables {
    struct json_pull vocab, merges; /* borrowed from the file's text */
};
/* text is the file; rest gets it with an empty object and an empty list in the tables' places: it is
 * JSON, and the tables are, just where the file is.  What cannot be found stays in rest.
 * MIL_INPUT: no UTF-8. */
enum mil_status tokenizer_cut_tables(const char *text, size_t n, struct tokenizer_tables *out,
                                     struct str *rest, struct mil_error *err);
/* After bpe.byte_symbols is known. */
enum mil_status tokenizer_read_vocab(const struct tokenizer_tables *tables, struct tokenizer *t,
                                     struct mil_error *err);
/* After the vocabulary. */
enum mil_status tokenizer_read_merges(const struct tokenizer_tables *tables, struct tokenizer *t,
                                      struct mil_error *err);

#endif
