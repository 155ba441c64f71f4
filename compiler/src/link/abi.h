/* The part that is the same for every model. */
#ifndef AOT_ABI_H
#define AOT_ABI_H

#include <stddef.h>
#include <stdint.h>

#define AOT_ABI_VERSION 3

#ifdef __cplusplus
extern "C" {
#endif

/* What a function returns: AOT_OK or a negative code. */
enum {
    AOT_OK = 0,
    AOT_E_ARGUMENT = -1,
    AOT_E_SHAPE = -2,
    AOT_E_DTYPE = -3,
    AOT_E_ALIGNMENT = -4,
    AOT_E_MEMORY = -5,
    AOT_E_ISA = -6,       /* the library needs CPU features that this machine does not have */
    AOT_E_ABI = -7,
    AOT_E_RAISED = -8,    /* the model raised an exception: class, message, file and line are in the text */
    AOT_E_INDEX = -9,     /* the same for an IndexError */
    AOT_E_CANCELLED = -10,
    AOT_E_INTERNAL = -11,
    AOT_E_UNSUPPORTED = -12
};

/* Element types, with PyTorch's numbers. */
enum {
    AOT_U8 = 0,
    AOT_I8 = 1,
    AOT_I16 = 2,
    AOT_I32 = 3,
    AOT_I64 = 4,
    AOT_F16 = 5,
    AOT_F32 = 6,
    AOT_F64 = 7,
    AOT_C32 = 8,
    AOT_C64 = 9,
    AOT_C128 = 10,
    AOT_BOOL = 11,
    AOT_BF16 = 15,
    AOT_U16 = 27,
    AOT_U32 = 28,
    AOT_U64 = 29
};

/* Flag of a tensor whose data, sizes and strides belong to the library until it is released. */
#define AOT_TENSOR_OWNED 1

typedef struct aot_tensor {
    void* data;
    const int64_t* sizes;
    const int64_t* strides; /* in elements; NULL: contiguous */
    int32_t ndim;
    uint8_t dtype;
    uint8_t flags;
    uint16_t reserved;
    size_t size_bytes; /* size of the memory at data */
} aot_tensor;

/* Kinds of values. */
enum {
    AOT_VALUE_NONE = 0,
    AOT_VALUE_BOOL = 1,
    AOT_VALUE_INT = 2,
    AOT_VALUE_FLOAT = 3,
    AOT_VALUE_COMPLEX = 4,
    AOT_VALUE_STRING = 5,
    AOT_VALUE_TENSOR = 6,
    AOT_VALUE_LIST = 7,
    AOT_VALUE_TUPLE = 8,
    AOT_VALUE_NAMED_TUPLE = 9,
    AOT_VALUE_DICT = 10
};

/* Flag of a value whose text, items or tensor belong to the library until it is released. */
#define AOT_VALUE_OWNED 1

typedef struct aot_value {
    int32_t tag;
    int32_t flags;
    size_t n; /* bytes of a string, elements of a list or tuple, entries of a dict */
    union {
        int64_t i;   /* int; bool as 0 and 1 */
        double f[2]; /* float; complex: real, imaginary */
        const char* text;
        aot_tensor* tensor;
        struct aot_value* items; /* of a dict: key, value, key, value, ... */
    } as;
    const char* const* names; /* named tuple: n field names, then the class; else NULL */
} aot_value;

/* What a line given to a log is. */
enum { AOT_LOG_PRINT = 0, AOT_LOG_WARNING = 1 };

/* What the model may use of its host; all optional. Set size to sizeof(aot_env) and the rest to zero. */
typedef struct aot_env {
    uint32_t size;
    int32_t max_threads; /* 0: as many as the machine has; 1: never start one */
    void* user;
    int (*parallel_for)(void* user, int n, int (*body)(void* arg, int i), void* arg);
    void* (*alloc)(void* user, size_t bytes, size_t align);
    void (*free)(void* user, void* memory);
    void (*log)(void* user, int level, const char* text); /* as NAME_set_log sets it */
} aot_env;

/* Owned by the caller; wherever one is asked for, NULL is fine too. */
typedef struct aot_error {
    int32_t code;
    int32_t op; /* the operator that failed, by its number in aot_model_info; -1: unknown */
    char text[248];
} aot_error;

/* Why the last failing call of a thread failed; the texts are kept until its next failing call. */
typedef struct aot_exception {
    int32_t code;
    int32_t op;          /* as in aot_error */
    int32_t line;        /* in the user's Python, from 1; 0: unknown */
    int32_t column;      /* from 0 */
    const char* type;    /* the Python class: "ValueError"; "" where the model raised nothing */
    const char* message;
    const char* file;    /* "" where unknown */
} aot_exception;

/* An argument or a result, with tuples, lists and dicts taken apart. */
typedef struct aot_leaf_info {
    const char* name;  /* of an argument: x, state[0]; of a result: NULL */
    const char* value; /* the only number or text that this version takes; NULL: any */
    int32_t kind;      /* AOT_VALUE_TENSOR, a number's, AOT_VALUE_STRING or AOT_VALUE_NONE; -1: any other value */
    int32_t dtype;
    int32_t ndim;      /* -1: only the computation tells */
    const int64_t* dims; /* an extent, or -1 - k for any; equal negative numbers are equal extents */
} aot_leaf_info;

/* A compiled version of a method. A call takes the first that its arguments fit. */
typedef struct aot_signature_info {
    const char* text;
    int64_t state; /* the kind of state that it is for; -1: any */
    size_t workspace_bytes;
    uint32_t n_inputs;
    uint32_t n_outputs;
    const aot_leaf_info* inputs;
    const aot_leaf_info* outputs;
} aot_signature_info;

typedef struct aot_method_info {
    const char* name;
    const char* signature; /* the texts of the versions, a line each */
    uint32_t n_signatures;
    const aot_signature_info* signatures;
} aot_method_info;

/* An operator where the user wrote it. */
typedef struct aot_operator_info {
    const char* name;
    const char* file;
    uint32_t line;
    uint32_t column; /* from 0 */
} aot_operator_info;

/* What a library holds. */
typedef struct aot_model_info {
    uint32_t abi_version;
    uint32_t n_methods;
    const char* name;
    const char* compiler;
    const char* model_hash;
    const char* cpu_features; /* the CPU features it needs, separated by commas */
    const char* flags;        /* what the compiler was told */
    const aot_method_info* methods;
    uint32_t n_operators;
    const aot_operator_info* operators;
    uint64_t weights_bytes;   /* of weights in the library */
    uint64_t prepared_bytes;  /* of memory that each open fills with other forms of weights */
    const char* prepared;     /* those forms: a size in bytes and a name on each line */
} aot_model_info;

/* All functions of a library that are the same for every model, for wrappers and for dlsym. */
typedef struct aot_api {
    size_t size; /* of this structure */
    const aot_model_info* (*info)(void);
    int (*open)(void** model, const aot_env* env, aot_error* err);
    void (*close)(void* model);
    int (*call)(void* model, void* state, const char* method, const aot_value* in, size_t n_in, aot_value* out,
                aot_error* err);
    int (*state_new)(void* model, void** state, aot_error* err);
    int (*state_clone)(const void* state, void** out, aot_error* err);
    int (*state_reset)(void* state, aot_error* err);
    void (*state_free)(void* state);
    int (*manual_seed)(void* state, uint64_t seed);
    void (*set_threads)(void* model, int32_t n_threads);
    void (*tensor_release)(aot_tensor* tensor);
    void (*value_release)(aot_value* value);
    void (*set_log)(void* model, void (*log)(void* user, int level, const char* text), void* user);
    const aot_exception* (*last_exception)(void);
} aot_api;

#ifdef __cplusplus
}
#endif

#endif
