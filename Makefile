# `make demo` builds the compiler, compiles a speech detector with it and runs that from C++.
# `make test` is everything a change must pass; CI runs the same.

CARGO ?= cargo
CXX ?= g++
BUILD := build
AOT := target/release/aot

# What a fresh Debian 12 needs beside Rust. LLVM is found by llvm-config-19 on the PATH; to use another one, set
# LLVM_SYS_191_PREFIX to its folder.
PACKAGES := llvm-19-dev libpolly-19-dev zlib1g-dev libzstd-dev libffi-dev libxml2-dev g++ make pkg-config cmake

.PHONY: demo test build deps clean

build: deps
	$(CARGO) build --release -p aot

demo: build
	mkdir -p $(BUILD)
	$(AOT) build examples/silero_vad/silero_vad.pt --name silero --input 'x=f32[1,512]' --input sr=16000 \
	    --emit header,cpp --timings -o $(BUILD)/libsilero_vad.so
	$(CXX) -std=c++17 -O2 -I$(BUILD) examples/cpp-host/main.cc -L$(BUILD) -lsilero_vad -Wl,-rpath,'$$ORIGIN' -o $(BUILD)/vad
	$(BUILD)/vad examples/speech.wav

test: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps
	$(CARGO) test --workspace

# Installs what is missing where that is possible, and says what to do where it is not.
deps:
	@PACKAGES='$(PACKAGES)' CARGO='$(CARGO)' sh .ci/deps

clean:
	rm -rf $(BUILD)
	$(CARGO) clean
