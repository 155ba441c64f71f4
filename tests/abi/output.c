/* Takes what a model prints and what it raises. */
#include "m.h"
#include "host.h"

static void on_line(void* user, int level, const char* text) {
    ++*(int*)user;
    printf("%s: %s\n", level == AOT_LOG_WARNING ? "warning" : "print", text);
}

static int call(m_model* model, int64_t n) {
    aot_error err;
    float ones[2] = {1, 2.5f};
    int64_t two[1] = {2};
    aot_tensor x;
    aot_value in[2], out;
    memset(&x, 0, sizeof x);
    memset(in, 0, sizeof in);
    x.data = ones, x.sizes = two, x.ndim = 1, x.dtype = AOT_F32;
    in[0].tag = AOT_VALUE_TENSOR;
    in[0].as.tensor = &x;
    in[1].tag = AOT_VALUE_INT;
    in[1].as.i = n;
    int status = m_call(model, NULL, "forward", in, 2, &out, &err);
    if (status == AOT_OK) m_value_release(&out);
    return status;
}

int main(void) {
    aot_error err;
    m_model* model = NULL;
    int n_lines = 0;
    CHECK(m_last_exception() == NULL);
    CHECK(m_open(&model, NULL, &err) == AOT_OK);
    m_set_log(model, on_line, &n_lines);
    CHECK(call(model, 1) == AOT_OK && n_lines == 3);
    CHECK(call(model, 3) == AOT_E_RAISED && n_lines == 6);
    const aot_exception* raised = m_last_exception();
    CHECK(raised != NULL && raised->code == AOT_E_RAISED && strlen(raised->message) == 311);
    printf("%s: %.15s... at %s:%d:%d\n", raised->type, raised->message, raised->file, (int)raised->line,
           (int)raised->column);
    fflush(stdout);
    m_set_log(model, NULL, NULL);
    CHECK(call(model, 2) == AOT_OK && n_lines == 6);
    m_close(model);
    return 0;
}
