/* Calls that raise: prints the status, the operator, the place and the message of each. */
#include "m.h"
#include "host.h"

static m_model* model;

static const char* base_name(const char* path) {
    const char* slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* The text is `Class: message`, a line break and `  at file:line:column`. */
static void report(const char* method, aot_tensor* tensor, int64_t n) {
    aot_value in[2], out;
    aot_error err;
    memset(in, 0, sizeof in);
    memset(&err, 0, sizeof err);
    in[0].tag = AOT_VALUE_TENSOR;
    in[0].as.tensor = tensor;
    in[1].tag = AOT_VALUE_INT;
    in[1].as.i = n;
    int status = m_call(model, NULL, method, in, n < 0 ? 1 : 2, &out, &err);
    if (status == AOT_OK) {
        m_value_release(&out);
        printf("0\n");
        return;
    }
    CHECK(err.code == status);
    char* place = strstr(err.text, "\n  at ");
    if (place == NULL) {
        printf("%d %s\n", status, err.text);
        return;
    }
    *place = 0;
    place += strlen("\n  at ");
    char* column = strrchr(place, ':');
    CHECK(column != NULL);
    *column = 0;
    const char* op = "-";
    if (err.op >= 0) {
        CHECK((uint32_t)err.op < m_info()->n_operators);
        const aot_operator_info* info = &m_info()->operators[err.op];
        CHECK(atoi(strrchr(place, ':') + 1) == (int)info->line && atoi(column + 1) == (int)info->column);
        op = info->name;
    }
    printf("%d %s %s: %s\n", status, op, base_name(place), err.text);
}

int main(void) {
    aot_error err;
    float ones[3] = {1, 1, 1};
    int64_t index[2] = {1, 9}, three[1] = {3}, two[1] = {2};
    aot_tensor x, i;
    memset(&x, 0, sizeof x);
    memset(&i, 0, sizeof i);
    x.data = ones, x.sizes = three, x.ndim = 1, x.dtype = AOT_F32;
    i.data = index, i.sizes = two, i.ndim = 1, i.dtype = AOT_I64;
    CHECK(m_open(&model, NULL, &err) == AOT_OK);
    for (int64_t what = 0; what < 6; ++what) report("forward", &x, what);
    report("look_up", &i, -1);
    index[1] = 10;
    report("look_up", &i, -1);
    report("reshape", &x, 2);
    m_close(model);
    return 0;
}
