// C++17 wrapper of compiled models. Header only; needs the C header of one model at least, included first.
//
//     #include "foo.h"
//     #include "aot.hpp"
//     aot::Model model(foo_api());
//     float probability = model.forward({aot::Tensor::view(samples, {1, 512}), 16000}).toTensor().item<float>();
//
// Errors are exceptions of type aot::Error. With AOT_NO_EXCEPTIONS defined nothing throws: after each call ask
// aot::last_error(), whose code is 0 when all went well, until aot::clear_error().
#ifndef AOT_HPP
#define AOT_HPP

#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifndef AOT_ABI_H
#error "include the C header of a model before aot.hpp"
#endif

#if defined(__unix__) && !defined(AOT_NO_DLOPEN)
#include <dlfcn.h>
#endif

namespace aot {

// What the model raised and where: the Python class (empty where it raised nothing), the message, the user's file and line.
struct Raised {
    std::string type, message, file;
    int line = 0, column = 0;
};

#ifdef AOT_NO_EXCEPTIONS
struct Error {
    std::string text;
    int code = 0;
    Raised raised = {};
};
inline Error& last_error() {
    thread_local Error error;
    return error;
}
inline void clear_error() { last_error() = Error(); }
inline void fail(int code, const std::string& text, Raised raised = {}) { last_error() = Error{text, code, std::move(raised)}; }
#else
struct Error : std::runtime_error {
    Error(int code_, const std::string& text, Raised raised_ = {}) : std::runtime_error(text), code(code_), raised(std::move(raised_)) {}
    int code;
    Raised raised;
};
[[noreturn]] inline void fail(int code, const std::string& text, Raised raised = {}) { throw Error(code, text, std::move(raised)); }
#endif

inline bool check(const aot_api* api, int status, const aot_error& error) {
    if (status >= 0) return true;
    Raised raised;
    const aot_exception* last = api->last_exception();
    if (last != nullptr) raised = {last->type, last->message, last->file, last->line, last->column};
    fail(status, error.text, std::move(raised));
    return false;
}

inline std::size_t element_size(int dtype) {
    switch (dtype) {
        case AOT_U8: case AOT_I8: case AOT_BOOL: return 1;
        case AOT_I16: case AOT_F16: case AOT_BF16: case AOT_U16: return 2;
        case AOT_I32: case AOT_F32: case AOT_C32: case AOT_U32: return 4;
        case AOT_C128: return 16;
        default: return 8;
    }
}

template <class T> struct dtype_of;
template <> struct dtype_of<std::uint8_t> { static constexpr int value = AOT_U8; };
template <> struct dtype_of<std::int8_t> { static constexpr int value = AOT_I8; };
template <> struct dtype_of<std::int16_t> { static constexpr int value = AOT_I16; };
template <> struct dtype_of<std::int32_t> { static constexpr int value = AOT_I32; };
template <> struct dtype_of<std::int64_t> { static constexpr int value = AOT_I64; };
template <> struct dtype_of<float> { static constexpr int value = AOT_F32; };
template <> struct dtype_of<double> { static constexpr int value = AOT_F64; };
template <> struct dtype_of<bool> { static constexpr int value = AOT_BOOL; };

// A tensor that owns its elements (shared between copies) or views memory of the caller's.
class Tensor {
public:
    Tensor() = default;
    // Views row-major memory, which must outlive the tensor; for a const pointer, give methods that do not write to it.
    template <class T> static Tensor view(T* data, std::vector<std::int64_t> sizes) {
        using Element = std::remove_const_t<T>;
        Tensor tensor(dtype_of<Element>::value, std::move(sizes));
        tensor.data_ = const_cast<Element*>(data);
        return tensor;
    }
    template <class T> static Tensor view(std::vector<T>& data, std::vector<std::int64_t> sizes) {
        Tensor tensor = view(data.data(), std::move(sizes));
        if (tensor.numel() > data.size()) fail(AOT_E_SHAPE, "the vector is smaller than the tensor");
        return tensor;
    }
    // Row-major, zeros.
    static Tensor zeros(std::vector<std::int64_t> sizes, int dtype = AOT_F32) {
        Tensor tensor(dtype, std::move(sizes));
        const std::size_t words = (tensor.nbytes() + 7) / 8;
        tensor.owner_ = std::shared_ptr<void>(new std::uint64_t[words + 1](), [](void* p) { delete[] static_cast<std::uint64_t*>(p); });
        tensor.data_ = tensor.owner_.get();
        return tensor;
    }
    // Copies the elements.
    template <class T> static Tensor from(const std::vector<T>& data, std::vector<std::int64_t> sizes) {
        Tensor tensor = zeros(std::move(sizes), dtype_of<T>::value);
        if (tensor.numel() != data.size()) fail(AOT_E_SHAPE, "the vector has not as many elements as the tensor");
        else if (!data.empty()) std::memcpy(tensor.data_, data.data(), tensor.nbytes());
        return tensor;
    }
    int dtype() const { return dtype_; }
    std::int64_t dim() const { return static_cast<std::int64_t>(sizes_.size()); }
    const std::vector<std::int64_t>& sizes() const { return sizes_; }
    std::int64_t size(std::size_t dim) const { return sizes_.at(dim); }
    std::size_t numel() const {
        std::size_t n = 1;
        for (std::int64_t size : sizes_) n *= static_cast<std::size_t>(size);
        return n;
    }
    std::size_t nbytes() const { return numel() * element_size(dtype_); }
    bool defined() const { return data_ != nullptr; }
    template <class T> T* data_ptr() const {
        if (dtype_of<T>::value == dtype_) return static_cast<T*>(data_);
        fail(AOT_E_DTYPE, "data_ptr: the tensor has another element type");
        return nullptr;
    }
    void* raw() const { return data_; }
    // The one element.
    template <class T> T item() const {
        const T* data = numel() == 1 ? data_ptr<T>() : nullptr;
        if (data != nullptr) return *data;
        fail(AOT_E_SHAPE, "item: not a tensor of one element of this type");
        return T();
    }
    // For the C functions; valid while this tensor is.
    aot_tensor c_tensor() const {
        aot_tensor tensor = {};
        tensor.data = data_;
        tensor.sizes = sizes_.data();
        tensor.ndim = static_cast<std::int32_t>(sizes_.size());
        tensor.dtype = static_cast<std::uint8_t>(dtype_);
        tensor.size_bytes = nbytes();
        return tensor;
    }
    // Takes over a tensor of a library's, released with the last copy.
    static Tensor adopt(const aot_tensor& from, std::shared_ptr<void> owner) {
        Tensor tensor(from.dtype, std::vector<std::int64_t>(from.sizes, from.sizes + from.ndim));
        tensor.data_ = from.data;
        tensor.owner_ = std::move(owner);
        return tensor;
    }

private:
    Tensor(int dtype, std::vector<std::int64_t> sizes) : dtype_(dtype), sizes_(std::move(sizes)) {}
    int dtype_ = AOT_F32;
    std::vector<std::int64_t> sizes_;
    void* data_ = nullptr;
    std::shared_ptr<void> owner_;
};

// An argument or result of any kind; the names are those of torch::IValue.
class Value {
public:
    Value() = default;
    Value(bool value) : tag_(AOT_VALUE_BOOL), int_(value) {}
    Value(int value) : tag_(AOT_VALUE_INT), int_(value) {}
    Value(std::int64_t value) : tag_(AOT_VALUE_INT), int_(value) {}
    Value(double value) : tag_(AOT_VALUE_FLOAT), re_(value) {}
    Value(const char* value) : tag_(AOT_VALUE_STRING), text_(value) {}
    Value(std::string value) : tag_(AOT_VALUE_STRING), text_(std::move(value)) {}
    Value(Tensor value) : tag_(AOT_VALUE_TENSOR), tensor_(std::move(value)) {}
    static Value complex(double re, double im) {
        Value value(re);
        value.tag_ = AOT_VALUE_COMPLEX;
        value.im_ = im;
        return value;
    }
    static Value list(std::vector<Value> items) { return {AOT_VALUE_LIST, std::move(items)}; }
    static Value tuple(std::vector<Value> items) { return {AOT_VALUE_TUPLE, std::move(items)}; }
    // key, value, key, value, ...
    static Value dict(std::vector<Value> items) { return {AOT_VALUE_DICT, std::move(items)}; }

    bool isNone() const { return tag_ == AOT_VALUE_NONE; }
    bool isBool() const { return tag_ == AOT_VALUE_BOOL; }
    bool isInt() const { return tag_ == AOT_VALUE_INT; }
    bool isDouble() const { return tag_ == AOT_VALUE_FLOAT; }
    bool isString() const { return tag_ == AOT_VALUE_STRING; }
    bool isTensor() const { return tag_ == AOT_VALUE_TENSOR; }
    bool isList() const { return tag_ == AOT_VALUE_LIST; }
    bool isTuple() const { return tag_ == AOT_VALUE_TUPLE || tag_ == AOT_VALUE_NAMED_TUPLE; }
    bool isGenericDict() const { return tag_ == AOT_VALUE_DICT; }

    bool toBool() const { return is(isBool(), "bool") && int_ != 0; }
    std::int64_t toInt() const { return is(isInt(), "int") ? int_ : 0; }
    double toDouble() const { return is(isDouble(), "float") ? re_ : 0; }
    const std::string& toStringRef() const { is(isString(), "str"); return text_; }
    Tensor toTensor() const { is(isTensor(), "Tensor"); return tensor_; }
    const std::vector<Value>& toTuple() const { is(isTuple(), "tuple"); return items_; }
    const std::vector<Value>& toList() const { is(isList(), "list"); return items_; }
    const std::vector<Value>& toGenericDict() const { is(isGenericDict(), "dict"); return items_; }
    double imag() const { return im_; }
    // Field names of a named tuple.
    const std::vector<std::string>& names() const { return names_; }

    // For the C functions; `space` must outlive the result and not move.
    struct Space {
        std::vector<std::unique_ptr<aot_tensor>> tensors;
        std::vector<std::vector<aot_value>> items;
    };
    aot_value c_value(Space& space) const {
        aot_value value = {};
        value.tag = tag_ == AOT_VALUE_NAMED_TUPLE ? static_cast<std::int32_t>(AOT_VALUE_TUPLE) : tag_;
        if (isBool() || isInt()) value.as.i = int_;
        else if (isDouble() || tag_ == AOT_VALUE_COMPLEX) { value.as.f[0] = re_; value.as.f[1] = im_; }
        else if (isString()) { value.as.text = text_.c_str(); value.n = text_.size(); }
        else if (isTensor()) {
            space.tensors.push_back(std::make_unique<aot_tensor>(tensor_.c_tensor()));
            value.as.tensor = space.tensors.back().get();
        } else if (!isNone()) {
            std::vector<aot_value> items;
            for (const Value& item : items_) items.push_back(item.c_value(space));
            value.n = isGenericDict() ? items.size() / 2 : items.size();
            space.items.push_back(std::move(items));
            value.as.items = space.items.back().data();
        }
        return value;
    }
    static Value adopt(const aot_value& from, const std::shared_ptr<void>& owner) {
        Value value;
        value.tag_ = from.tag;
        switch (from.tag) {
            case AOT_VALUE_BOOL: case AOT_VALUE_INT: value.int_ = from.as.i; break;
            case AOT_VALUE_FLOAT: value.re_ = from.as.f[0]; break;
            case AOT_VALUE_COMPLEX: value.re_ = from.as.f[0]; value.im_ = from.as.f[1]; break;
            case AOT_VALUE_STRING: value.text_.assign(from.as.text, from.n); break;
            case AOT_VALUE_TENSOR: value.tensor_ = Tensor::adopt(*from.as.tensor, owner); break;
            case AOT_VALUE_LIST: case AOT_VALUE_TUPLE: case AOT_VALUE_NAMED_TUPLE: case AOT_VALUE_DICT: {
                const std::size_t n = from.tag == AOT_VALUE_DICT ? 2 * from.n : from.n;
                for (std::size_t i = 0; i < n; i++) value.items_.push_back(adopt(from.as.items[i], owner));
                for (std::size_t i = 0; from.names != nullptr && i < n; i++) value.names_.push_back(from.names[i]);
                break;
            }
            default: break;
        }
        return value;
    }

private:
    Value(int tag, std::vector<Value> items) : tag_(tag), items_(std::move(items)) {}
    static bool is(bool holds, const char* expected) {
        if (!holds) fail(AOT_E_ARGUMENT, std::string("the value is not of type ") + expected);
        return holds;
    }
    std::int32_t tag_ = AOT_VALUE_NONE;
    std::int64_t int_ = 0;
    double re_ = 0, im_ = 0;
    std::string text_;
    Tensor tensor_;
    std::vector<Value> items_;
    std::vector<std::string> names_;
};

namespace detail {
struct Library {
    const aot_api* api = nullptr;
    void* model = nullptr;
    std::function<void(int, const std::string&)> log;
    Library() = default;
    Library(const Library&) = delete;
    Library& operator=(const Library&) = delete;
    ~Library() { if (model != nullptr) api->close(model); }
};
}

// What a model keeps from call to call. Copies are independent.
class State {
public:
    explicit State(std::shared_ptr<detail::Library> library) : library_(std::move(library)) {
        aot_error error = {};
        check(library_->api, library_->api->state_new(library_->model, &state_, &error), error);
    }
    State(const State& other) : library_(other.library_) {
        aot_error error = {};
        check(library_->api, library_->api->state_clone(other.state_, &state_, &error), error);
    }
    State(State&& other) noexcept : library_(other.library_), state_(std::exchange(other.state_, nullptr)) {}
    State& operator=(State other) noexcept { std::swap(library_, other.library_); std::swap(state_, other.state_); return *this; }
    ~State() { if (state_ != nullptr) library_->api->state_free(state_); }
    void reset() {
        aot_error error = {};
        check(library_->api, library_->api->state_reset(state_, &error), error);
    }
    void manual_seed(std::uint64_t seed) { library_->api->manual_seed(state_, seed); }
    void* raw() const { return state_; }

private:
    std::shared_ptr<detail::Library> library_;
    void* state_ = nullptr;
};

class Method;

// A compiled model. Copies share it.
class Model {
public:
    explicit Model(const aot_api* api, const aot_env* env = nullptr) : library_(std::make_shared<detail::Library>()) {
        aot_error error = {};
        library_->api = api;
        check(api, api->open(&library_->model, env, &error), error);
    }
    Value run(const std::string& method, const std::vector<Value>& inputs, const State* state = nullptr) const {
        Value::Space space;
        std::vector<aot_value> in;
        for (const Value& input : inputs) in.push_back(input.c_value(space));
        auto library = library_;
        std::shared_ptr<aot_value> out(new aot_value(), [library](aot_value* value) { library->api->value_release(value); delete value; });
        aot_error error = {};
        void* raw = state == nullptr ? nullptr : state->raw();
        if (!check(library_->api, library_->api->call(library_->model, raw, method.c_str(), in.data(), in.size(), out.get(), &error), error)) return {};
        return Value::adopt(*out, out);
    }
    Value forward(const std::vector<Value>& inputs) const { return run("forward", inputs); }
    Value forward(const std::vector<Value>& inputs, State& state) const { return run("forward", inputs, &state); }
    Method get_method(const std::string& name) const;
    State new_state() const { return State(library_); }
    const aot_model_info& info() const { return *library_->api->info(); }
    void set_threads(int n_threads) { library_->api->set_threads(library_->model, n_threads); }
    // Takes what the model prints (AOT_LOG_PRINT) and warns (AOT_LOG_WARNING), line by line; set it while no call runs.
    void set_log(std::function<void(int, const std::string&)> log) {
        library_->log = std::move(log);
        auto forward = [](void* user, int level, const char* text) { static_cast<detail::Library*>(user)->log(level, text); };
        library_->api->set_log(library_->model, library_->log ? +forward : nullptr, library_.get());
    }
    // Compiled models are always in evaluation mode and on the CPU.
    void eval() {}

private:
    std::shared_ptr<detail::Library> library_;
};

// A method by name.
class Method {
public:
    Method(Model model, std::string name) : model_(std::move(model)), name_(std::move(name)) {}
    Value operator()(const std::vector<Value>& inputs) const { return model_.run(name_, inputs); }
    const std::string& name() const { return name_; }

private:
    Model model_;
    std::string name_;
};

inline Method Model::get_method(const std::string& name) const { return {*this, name}; }

inline Model load(const aot_api* api) { return Model(api); }

#if defined(__unix__) && !defined(AOT_NO_DLOPEN)
// Loads libNAME.so; `name` is needed where the library was built under another name than its file's. Stays loaded.
inline Model load(const std::string& path, std::string name = "") {
    if (name.empty()) {
        name = path.substr(path.rfind('/') + 1);
        name = name.substr(0, name.find('.'));
        if (name.compare(0, 3, "lib") == 0) name = name.substr(3);
    }
    static const aot_api none = [] {
        aot_api api = {};
        api.open = [](void**, const aot_env*, aot_error*) { return 0; };
        return api;
    }();
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* symbol = library == nullptr ? nullptr : dlsym(library, (name + "_api").c_str());
    if (symbol == nullptr) {
        fail(AOT_E_ARGUMENT, dlerror());
        return Model(&none);
    }
    const aot_api* (*api)(void) = nullptr;
    std::memcpy(&api, &symbol, sizeof api);
    return Model(api());
}
#endif

}  // namespace aot

#endif
