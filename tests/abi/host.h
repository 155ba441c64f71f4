/* What the hosts share: arguments and results for a method, made from nothing but what the library says of itself. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

#define MOST 16

/* A call of a method by its first signature, with memory for everything. */
typedef struct arguments {
    size_t n_in, n_out;
    aot_tensor in[MOST], out[MOST];
    void* ws;
    size_t ws_bytes;
} arguments;

static inline size_t element_bytes(int dtype) {
    switch (dtype) {
        case AOT_F32: case AOT_I32: return 4;
        case AOT_F64: case AOT_I64: return 8;
        default: return 1;
    }
}

static inline aot_tensor tensor_of(const aot_leaf_info* leaf) {
    aot_tensor tensor;
    size_t n = 1;
    memset(&tensor, 0, sizeof tensor);
    for (int i = 0; i < leaf->ndim; ++i) n *= (size_t)leaf->dims[i];
    tensor.sizes = leaf->dims;
    tensor.ndim = leaf->ndim;
    tensor.dtype = (uint8_t)leaf->dtype;
    tensor.size_bytes = n * element_bytes(leaf->dtype);
    tensor.data = calloc(1, tensor.size_bytes + 8);
    return tensor;
}

/* Floats get numbers between -1 and 1, integers 0 or the only value that is taken. */
static inline arguments prepare(const aot_method_info* method) {
    const aot_signature_info* signature = &method->signatures[0];
    arguments args;
    uint32_t seed = 1;
    memset(&args, 0, sizeof args);
    CHECK(signature->n_inputs <= MOST && signature->n_outputs <= MOST && signature->n_outputs > 0);
    args.n_in = signature->n_inputs;
    args.n_out = signature->n_outputs;
    for (size_t i = 0; i < args.n_in; ++i) {
        const aot_leaf_info* leaf = &signature->inputs[i];
        CHECK(leaf->name != NULL && leaf->kind != AOT_VALUE_NONE);
        args.in[i] = tensor_of(leaf);
        if (leaf->kind == AOT_VALUE_INT && leaf->value != NULL) *(int64_t*)args.in[i].data = atoll(leaf->value);
        if (leaf->dtype != AOT_F32) continue;
        for (size_t k = 0; k < args.in[i].size_bytes / 4; ++k) {
            seed = seed * 1664525u + 1013904223u;
            ((float*)args.in[i].data)[k] = (float)(int32_t)seed / 2147483648.0f;
        }
    }
    for (size_t i = 0; i < args.n_out; ++i) {
        CHECK(signature->outputs[i].ndim >= 0);
        args.out[i] = tensor_of(&signature->outputs[i]);
    }
    args.ws_bytes = signature->workspace_bytes;
    return args;
}

static inline void discard(arguments* args) {
    for (size_t i = 0; i < args->n_in; ++i) free(args->in[i].data);
    for (size_t i = 0; i < args->n_out; ++i) free(args->out[i].data);
}
