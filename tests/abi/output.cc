// The same through the C++ wrapper.
#include "m.h"
#include "aot.hpp"
#include <cstdio>

int main() {
    aot::Model model(m_api());
    model.set_log([](int level, const std::string& text) {
        std::printf("%s: %s\n", level == AOT_LOG_WARNING ? "warning" : "print", text.c_str());
    });
    const std::vector<float> x = {1, 2.5f};
    if (model.forward({aot::Tensor::view(x.data(), {2}), 1}).toInt() != 1) return 1;
    try {
        model.forward({aot::Tensor::view(x.data(), {2}), 3});
    } catch (const aot::Error& error) {
        const aot::Raised& raised = error.raised;
        std::printf("%s: %s... at %s:%d:%d\n", raised.type.c_str(), raised.message.substr(0, 15).c_str(), raised.file.c_str(), raised.line, raised.column);
        if (raised.message.size() != 311) return 1;
    }
    std::fflush(stdout);
    model.set_log(nullptr);
    return model.forward({aot::Tensor::view(x.data(), {2}), 2}).toInt() == 2 ? 0 : 1;
}
