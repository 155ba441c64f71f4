// Finds speech in a 16 kHz mono WAV file with the compiled Silero VAD model.
#include "silero.h"

#include "aot.hpp"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>

constexpr int kRate = 16000, kChunk = 512, kQuietChunks = 7;  // pauses under 0.2 s do not end a segment

// Reads 16-bit mono samples; only plain PCM files are understood.
static std::vector<float> read_wav(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const std::size_t data = bytes.find("data", 12);
    std::vector<float> samples;
    if (bytes.compare(0, 4, "RIFF") != 0 || data == std::string::npos) throw std::runtime_error(path + ": not a WAV file");
    for (std::size_t at = data + 8; at + 1 < bytes.size(); at += 2) {
        const auto low = static_cast<unsigned char>(bytes[at]), high = static_cast<unsigned char>(bytes[at + 1]);
        samples.push_back(static_cast<std::int16_t>(low | high << 8) / 32768.0f);
    }
    return samples;
}

int main(int argc, char** argv) try {
    std::vector<float> samples = read_wav(argc > 1 ? argv[1] : "../speech.wav");
    aot::Model model(silero_api());
    aot::State state = model.new_state();  // another stream would have another state

    const auto print = [](double from, double to) { std::printf("speech %6.2f s to %6.2f s\n", from, to); };
    double start = -1, seconds = 0;
    int chunks = 0, quiet = 0;
    for (std::size_t at = 0; at + kChunk <= samples.size(); at += kChunk, chunks++) {
        const auto before = std::chrono::steady_clock::now();
        const auto audio = aot::Tensor::view(&samples[at], {1, kChunk});
        const float probability = model.forward({audio, kRate}, state).toTensor().item<float>();
        seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
        quiet = probability >= 0.5f ? 0 : quiet + 1;
        if (quiet == 0 && start < 0) start = static_cast<double>(at) / kRate;
        if (quiet == kQuietChunks && start >= 0) {
            print(start, static_cast<double>(at - (kQuietChunks - 1) * kChunk) / kRate);
            start = -1;
        }
    }
    if (start >= 0) print(start, static_cast<double>(samples.size()) / kRate);
    std::printf("%d chunks of 32 ms, %.1f us each\n", chunks, 1e6 * seconds / (chunks > 0 ? chunks : 1));
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
